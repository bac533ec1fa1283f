"""Raw engine speed: every entry, by batch."""

from functools import partial
from typing import Final, Literal

import msgspec
import numpy as np

from engines.engine import Backend, Engine, Precision, open_engine
from engines.spec import EntryName, Model
from tools.benchmarking.figures import Percentiles, Spread, measure

BATCHES: Final = (1, 2, 4, 8, 16)
SEED: Final = 0


class BatchFigures(msgspec.Struct, frozen=True):
    """One batch size."""

    batch: int
    images_per_s: Spread
    batch_ms: Percentiles  # one run of the whole batch
    runs: int


class EngineFigures(msgspec.Struct, frozen=True):
    """One entry on the engine that ran it."""

    entry: EntryName
    width: int  # of the input, pixels
    height: int
    backend: str
    precision: str
    device: str
    batches: tuple[BatchFigures, ...]


def measure_engines(
    model: Model, backend: Literal["auto"] | Backend, precision: Precision, seconds: float
) -> tuple[EngineFigures, ...]:
    """Run every entry on random pictures in every batch size, ``seconds`` for all of them together.

    Raises:
        EngineError: the backend cannot run here, or fails.
        ModelError: a file of the model does not load.
    """
    figures = []
    entries = model.spec.network.entries
    for entry in entries:
        with open_engine(model, entry, backend, precision) as engine:
            share_s = seconds / (len(entries) * len(BATCHES))
            batches = tuple(_measure_batch(engine, batch, share_s) for batch in BATCHES)
            size = engine.spec.width, engine.spec.height
            figures.append(EngineFigures(entry, *size, engine.backend, engine.precision, engine.device, batches))
    return tuple(figures)


def _measure_batch(engine: Engine, batch: int, seconds: float) -> BatchFigures:
    shape = (batch, engine.spec.height, engine.spec.width, 3)
    pictures = np.random.default_rng(SEED).integers(0, 256, shape, np.uint8)
    windows = measure(partial(engine.infer, pictures), seconds)
    laps_ms = [lap for window in windows for lap in window.laps_ms]
    return BatchFigures(
        batch=batch,
        images_per_s=Spread.of([batch * len(window.laps_ms) / window.seconds for window in windows]),
        batch_ms=Percentiles.of(laps_ms),
        runs=len(laps_ms),
    )
