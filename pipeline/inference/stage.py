"""Prepared batches -> raw outputs -> the detections of each frame."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.boxes import letterbox
from engines.decode import Detections, decode
from engines.engine import Engine, Running, open_engine
from engines.errors import BackendUnavailable
from engines.merging import merge
from engines.nms import Suppression
from engines.planes import PlanesEngine
from engines.scenes import grouped
from engines.spec import EntryName, EntrySpec, Model, ModelSpec, Thresholds
from pipeline.frames.picture import Picture
from pipeline.frames.types import CropsSeen, Frame, Inferred, Observed, Prepared, Skipped
from pipeline.inference.views import pictures_of
from pipeline.settings.schema import ModelSettings


@dataclass(frozen=True, slots=True)
class Started:
    """A batch under way in the engine."""

    prepared: Prepared
    running: Running
    started_ns: int

    @property
    def frames(self) -> tuple[Frame, ...]:
        return self.prepared.frames


class _Nothing:
    """The run of a batch in which no frame is to be inferred."""

    def outputs(self) -> dict[str, npt.NDArray[np.generic]]:
        return {}


class _Checked:
    """The run of a batch of ``count`` pictures, whose outputs are what the entry gives, or EngineError."""

    def __init__(self, running: Running, entry: EntrySpec, count: int) -> None:
        self._running, self._entry, self._count = running, entry, count

    def outputs(self) -> dict[str, npt.NDArray[np.generic]]:
        outputs = self._running.outputs()
        self._entry.check_outputs(outputs, self._count)
        return outputs


def room_between(engine: Engine) -> int:
    """Batches that may wait between :func:`start` and :func:`collect`, each of which has a thread of its own.

    So a batch is handed on as soon as it is done, whether or not another comes, and another starts as soon as it comes.
    As many are under way as the engine has use for.
    """
    return max(1, engine.depth - 2)  # besides, one is being waited for, and one is being put in


def open_entry(model: Model, entry: EntryName, settings: ModelSettings) -> Engine:
    """The engine of an entry as a configuration wants it; raises as :func:`engines.engine.open_engine`."""
    return open_engine(
        model,
        entry,
        settings.backend,
        settings.precision,
        gpu=settings.gpu,
        torch_compile=settings.torch_compile,
    )


def open_planes(engine: Engine) -> PlanesEngine:
    """The engine as one that letterboxes pictures itself, tried with one.

    Raises:
        BackendUnavailable: it does not, or has not what it needs for it.
    """
    if not isinstance(engine, PlanesEngine):
        raise BackendUnavailable(
            f"inference.preprocess is 'gpu', but backend {engine.backend!r} runs on {engine.device}: it must be 'cpu' "
            "there, or the backend 'torch' or 'tensorrt' on an NVIDIA GPU"
        )
    size = engine.spec.width, engine.spec.height
    black = Picture.from_rgb(np.zeros((*size[::-1], 3), np.uint8))
    engine.start_planes([black.placed(letterbox(size, size))]).outputs()
    return engine


def start(batches: Iterable[Prepared], engine: Engine) -> Iterator[Started]:
    """Begin to run the frame entry over each batch."""
    for prepared in batches:
        began = time.monotonic_ns()
        yield Started(
            prepared,
            _Checked(engine.start(prepared.pixels), engine.spec, len(prepared.pixels))
            if len(prepared.pixels)
            else _Nothing(),
            began,
        )


def start_planes(batches: Iterable[Prepared], engine: PlanesEngine) -> Iterator[Started]:
    """Begin to run the frame entry over the pictures of each batch, as they were decoded."""
    for prepared in batches:
        began = time.monotonic_ns()
        shown = zip(pictures_of(prepared.batch, prepared.views), prepared.letterboxes, strict=True)
        pictures = [picture.placed(box) for picture, box in shown]
        yield Started(
            prepared,
            _Checked(engine.start_planes(pictures), engine.spec, len(pictures)) if pictures else _Nothing(),
            began,
        )


def collect(batches: Iterable[Started]) -> Iterator[Inferred]:
    """Wait for the outputs of each batch; EngineError where they are not what its entry gives."""
    for batch in batches:
        outputs = batch.running.outputs()
        yield Inferred(batch.prepared, outputs, batch.started_ns, time.monotonic_ns())


def detect(
    batches: Iterable[Inferred],
    thresholds: Callable[[], Thresholds],
    suppression: Suppression = "class-aware",
    spec: ModelSpec | None = None,
    saw: Callable[[CropsSeen], None] = lambda seen: None,
) -> Iterator[list[Observed | Skipped]]:
    """Decode the frames of each batch that were inferred: score thresholds, NMS, source pixels, groups of scenes.

    What was found in a picture and in its crops is put together.

    Args:
        batches: raw outputs.
        thresholds: tells, for each batch, which detections are kept.
        suppression: of objects that overlap.
        spec: the model's, for its groups of scenes; None: it has none.
        saw: hears what was found in frames that may have crops.
    """
    for inferred in batches:
        timestamps, skipped = inferred.timestamps, inferred.prepared.batch.skipped
        outputs = inferred.outputs
        if spec is not None and spec.scene_groups and "scene" in outputs:
            scene = grouped(outputs["scene"].astype(np.float32), spec.scene_groups, spec.scenes)
            outputs = {**outputs, "scene": scene}
        seen = decode(outputs, inferred.prepared.letterboxes, thresholds(), suppression)
        if inferred.prepared.views:
            seen = _merged(seen, inferred.prepared, thresholds(), suppression, saw)
        found = iter(seen)
        yield [
            Skipped(frame, timestamps) if place in skipped else Observed(frame, next(found), timestamps)
            for place, frame in enumerate(inferred.frames)
        ]


def _merged(
    seen: list[Detections],
    prepared: Prepared,
    thresholds: Thresholds,
    suppression: Suppression,
    saw: Callable[[CropsSeen], None],
) -> list[Detections]:
    """What was found in each frame, of that in all rows; told where the frame may have crops."""
    found, first = [], 0
    for frame, count in zip(prepared.batch.to_infer, prepared.views, strict=True):
        places = prepared.letterboxes[first : first + count]
        found.append(merge(seen[first : first + count], places, thresholds, suppression))
        first += count
        if frame.crops:
            boxes = np.concatenate([found[-1].objects.boxes, found[-1].faces.boxes])
            saw(CropsSeen(frame.stream, tuple((*place.origin, *place.source) for place in places[1:]), boxes))
    return found
