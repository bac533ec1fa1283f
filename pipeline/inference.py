"""Prepared batches -> raw outputs -> the detections of each frame."""

import time
from collections.abc import Iterable, Iterator

from engines.decode import decode
from engines.engine import Engine
from engines.spec import Thresholds
from pipeline.types import Inferred, Observed, Prepared, Stamps


def infer(batches: Iterable[Prepared], engine: Engine) -> Iterator[Inferred]:
    """Run the frame entry over each batch."""
    for prepared in batches:
        began = time.monotonic_ns()
        outputs = engine.infer(prepared.pixels)
        yield Inferred(prepared, outputs, began, time.monotonic_ns())


def detect(batches: Iterable[Inferred], thresholds: Thresholds) -> Iterator[Observed]:
    """Decode each frame of each batch: score thresholds, NMS, source pixels."""
    for inferred in batches:
        prepared = inferred.prepared
        stamps = Stamps(prepared.batch.taken_ns, prepared.ready_ns, inferred.started_ns, inferred.ended_ns)
        for row, frame in enumerate(inferred.frames):
            yield Observed(frame, decode(inferred.outputs, row, prepared.letterboxes[row], thresholds), stamps)
