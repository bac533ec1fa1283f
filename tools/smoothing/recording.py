"""What a model saw in clips, frame by frame, before any smoothing: made once, kept, and smoothed in every way."""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.engine import open_engine
from engines.errors import SourceError
from engines.spec import Model
from engines.study.writing import write_bytes
from pipeline.frames.types import Batch, Tracked
from pipeline.inference.preprocess import preprocess
from pipeline.inference.stage import collect, detect, start
from pipeline.runtime.postprocess import effective_thresholds, low_score_thresholds
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sources.capture import capture, check_source
from pipeline.tracking.stage import Trackers, track

FORMAT: Final = 1  # of the files; another one is made again
SUFFIXES: Final = (".avi", ".mkv", ".mov", ".mp4")


@dataclass(frozen=True, slots=True)
class RecordedClip:
    """A clip of F frames: D detections that belong to shown tracks, in the order of their frames, and the scenes."""

    times_s: npt.NDArray[np.float64]  # (F,) stream time
    frames: npt.NDArray[np.int64]  # (D,) rows of times_s
    ids: npt.NDArray[np.int64]  # (D,) tracks
    labels: npt.NDArray[np.int32]  # (D,) raw labels
    scores: npt.NDArray[np.float32]  # (D,)
    scenes: npt.NDArray[np.float32]  # (F, C) probabilities


def clips(data: Path) -> list[Path]:
    """The videos in the folder ``video`` of ``data``, by name.

    Raises:
        SourceError: there is none.
    """
    found = sorted(path for path in (data / "video").glob("*") if path.suffix in SUFFIXES)
    if not found:
        raise SourceError(f"--data is {str(data)!r}, but its folder video has no {', '.join(SUFFIXES)} file")
    return found


def recorded(clip: Path, model: Model, kept: Path) -> RecordedClip:
    """What ``model`` sees in ``clip``; from the folder ``kept``, where the same was recorded before.

    Raises:
        SourceError: the file cannot be played, or there is no picture in it.
    """
    content = hashlib.sha256(clip.read_bytes()).hexdigest()
    key = hashlib.sha256(f"{FORMAT} {content} {model.fingerprint}".encode()).hexdigest()[:16]
    file = kept / f"{clip.stem}-{key}.npz"
    if not file.exists():
        kept.mkdir(parents=True, exist_ok=True)
        _write(file, _record(clip, model))
    with np.load(file) as arrays:
        return RecordedClip(**{field.name: arrays[field.name] for field in fields(RecordedClip)})


def _write(file: Path, recording: RecordedClip) -> None:
    buffer = BytesIO()
    np.savez_compressed(buffer, **{field.name: getattr(recording, field.name) for field in fields(RecordedClip)})
    write_bytes(file, buffer.getvalue())


def _record(clip: Path, model: Model) -> RecordedClip:
    # Only what is kept of each frame: all the pictures of a clip would fill the memory.
    times, objects, scenes = [], [], []
    for tracked in _tracked(clip, model):
        times.append(tracked.frame.time_s)
        objects.append(tracked.objects)
        scenes.append(tracked.detections.scene)
    if not times:
        raise SourceError(f"clip {str(clip)!r} has no picture that can be decoded")
    return RecordedClip(
        np.array(times),
        np.repeat(np.arange(len(times)), [len(each.ids) for each in objects]),
        np.concatenate([each.ids for each in objects]),
        np.concatenate([each.labels for each in objects]),
        np.concatenate([each.scores for each in objects]),
        np.stack(scenes),
    )


def _tracked(clip: Path, model: Model) -> Iterator[Tracked]:
    """The frames of the clip as they come to be smoothed."""
    stream = StreamSettings(name="clip", source=str(clip))
    check_source(stream)
    config, spec = Config(streams=(stream,)), model.spec
    sure = effective_thresholds(config, model)
    person = spec.objects.index("person") if "person" in spec.objects else None
    with open_engine(model, "frame") as engine:
        captured = capture(stream, stop=threading.Event(), health=lambda _: None)
        batches = (Batch((frame,), time.monotonic_ns()) for frame in captured)
        prepared = preprocess(batches, (engine.spec.height, engine.spec.width))
        observed = detect(
            collect(start(prepared, engine)),
            low_score_thresholds(sure, config.tracking.low_score_ratio),
            config.inference.nms,
        )
        yield from track(observed, Trackers(config.tracking, sure, person))
