"""Clips without labels looked at in several ways, as a run does: what each finds, and agreement with tiles."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from engines.boxes import iou_matrix
from engines.decode import Detections
from engines.engine import Engine
from engines.spec import Thresholds
from pipeline.frames.types import Batch, Frame, Observed
from pipeline.inference.preprocess import preprocess
from pipeline.inference.stage import collect, detect, start
from pipeline.inference.views import CropChoices
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from tools.crops.ways import LookingWay, PictureLooker

SAME_IOU: Final = 0.5


class ClipFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of looking finds in a clip, at the model's thresholds."""

    clip: str
    size: tuple[int, int]
    way: str
    frames: int
    passes: float  # of the network, a frame
    cpu_ms: float  # a frame
    objects: float  # a frame
    faces: float
    of_reference: float | None  # share of the last way's objects that it has; None: that has none
    in_reference: float | None  # share of its own objects that the last way has


def measure_clip(
    source: str, engine: Engine, thresholds: Thresholds, weak: Thresholds, ways: Sequence[LookingWay], every: int = 1
) -> list[ClipFigures]:
    """Look at a clip, or one frame in ``every``, in each way; the last one is what the others are held against.

    Raises:
        SourceError: it cannot be played.
    """
    seen: dict[str, list[Detections]] = {way.name: [] for way in ways}
    passes, spent = dict.fromkeys(seen, 0), dict.fromkeys(seen, 0.0)
    looker, size = PictureLooker(engine, thresholds, weak), (0, 0)
    choices = {way.name: CropChoices() for way in ways}
    for frame in _frames(source, every):
        size = frame.picture.width, frame.picture.height
        for way in ways:
            if way.tiles:
                (looks,) = looker.look(frame.picture, [way])
                found, count, seconds = looks.detections, looks.passes, looks.seconds
            else:
                found, count, seconds = _look(frame, way, choices[way.name], engine, thresholds)
            seen[way.name].append(found)
            passes[way.name] += count
            spent[way.name] += seconds
    reference = seen[ways[-1].name]
    return [
        _figures(source, size, way.name, seen[way.name], passes[way.name], spent[way.name], reference) for way in ways
    ]


def _frames(source: str, every: int) -> Iterator[Frame]:
    settings = StreamSettings(name="clip", source=source)
    with closing(capture(settings, stop=threading.Event(), health=lambda report: None)) as frames:
        yield from (frame for frame in frames if frame.seq % every == 0)


def _look(
    frame: Frame, way: LookingWay, choices: CropChoices, engine: Engine, thresholds: Thresholds
) -> tuple[Detections, int, float]:
    """The way of a frame in a run, as far as detection; the next frame's crops follow from what is seen in it."""
    frame = replace(frame, crops=way.crops)
    began = time.process_time()
    size = engine.spec.height, engine.spec.width
    (prepared,) = preprocess([Batch((frame,), 0)], size, crops=choices)
    ((observed,),) = detect(collect(start([prepared], engine)), lambda: thresholds, saw=choices.saw)
    seconds = time.process_time() - began
    assert isinstance(observed, Observed)
    return observed.detections, len(prepared.letterboxes), seconds


def _figures(
    source: str,
    size: tuple[int, int],
    way: str,
    seen: list[Detections],
    passes: int,
    seconds: float,
    reference: list[Detections],
) -> ClipFigures:
    own, theirs, common = 0, 0, 0
    for one, other in zip(seen, reference, strict=True):
        own, theirs = own + len(one.objects.boxes), theirs + len(other.objects.boxes)
        common += _common(one, other)
    count = max(1, len(seen))
    return ClipFigures(
        clip=source,
        size=size,
        way=way,
        frames=len(seen),
        passes=passes / count,
        cpu_ms=round(1e3 * seconds / count, 2),
        objects=own / count,
        faces=sum(len(each.faces.boxes) for each in seen) / count,
        of_reference=common / theirs if theirs else None,
        in_reference=common / own if own else None,
    )


def _common(one: Detections, other: Detections) -> int:
    """How many objects both have, with the same label, each once."""
    same = iou_matrix(one.objects.boxes, other.objects.boxes)
    same = np.where(one.objects.labels[:, None] == other.objects.labels, same, 0.0)
    count = 0
    while same.size and same.max() >= SAME_IOU:
        row, column = np.unravel_index(int(same.argmax()), same.shape)
        same[row], same[:, column] = 0.0, 0.0
        count += 1
    return count
