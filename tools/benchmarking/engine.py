"""Raw engine speed: every entry, by backend, precision and batch."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Final

import msgspec
import numpy as np

from engines.arrays import Pictures
from engines.engine import Backend, Engine, Precision, Running, open_engine
from engines.errors import BackendUnavailable, ModelError
from engines.spec import EntryName, Model
from tools.benchmarking.figures import REPEATS, Percentiles, Spread, Window, measure

BATCHES: Final = (1, 2, 4, 8, 16)
SEED: Final = 0
COMPILED: Final = " compiled"  # after the name of the backend
LATENCY_SHARE: Final = 0.4  # of the time of a batch size; the rest goes to throughput


class BatchFigures(msgspec.Struct, frozen=True):
    """One batch size."""

    batch: int
    images_per_s: Spread  # with as many batches under way as the engine likes
    cpu_ms_per_image: Spread  # the same runs, all threads
    batch_ms: Percentiles  # one run of a whole batch, alone in the engine
    latency_ms: Spread  # the median of each repeat of the same
    runs: int


class EngineFigures(msgspec.Struct, frozen=True):
    """One entry on the engine that ran it."""

    entry: EntryName
    width: int  # of the input, pixels
    height: int
    backend: str  # "torch compiled": with kernels that torch.compile made
    precision: str
    device: str
    depth: int  # batches that were under way at once where throughput was measured
    batches: tuple[BatchFigures, ...]


class EngineReport(msgspec.Struct, frozen=True):
    """Every entry on every engine that was asked for."""

    entries: tuple[EngineFigures, ...]
    refused: tuple[str, ...]  # one sentence for each combination that cannot run here


def measure_engines(
    model: Model,
    backends: Sequence[Backend],
    precisions: Sequence[Precision],
    seconds: float,
    repeats: int = REPEATS,
    *,
    gpu: int | None = None,
    torch_compile: bool = False,
) -> EngineReport:
    """Run every entry on random pictures in every batch size, ``seconds`` for all of them together.

    With ``torch_compile``, backend ``torch`` is measured once more with the kernels that ``torch.compile`` makes. A
    combination that cannot run here is told of in the report, unless it is the only one.

    Raises:
        EngineError: nothing that was asked for can run here, or an engine fails.
        ModelError: a file of the model does not load.
    """
    figures: list[EngineFigures] = []
    refused: list[str] = []
    entries, wanted = model.spec.network.entries, list(product(backends, precisions, (False,)))
    if torch_compile:
        wanted += [("torch", precision, True) for precision in precisions]
    share_s = seconds / (len(entries) * len(wanted) * len(BATCHES))
    for backend, precision, compiled in wanted:
        try:
            for entry in entries:
                with open_engine(model, entry, backend, precision, gpu=gpu, torch_compile=compiled) as engine:
                    figures.append(_measure_entry(engine, entry, compiled, share_s, repeats))
        except (BackendUnavailable, ModelError) as error:
            if len(wanted) == 1:
                raise
            refused.append(f"{backend}{COMPILED if compiled else ''} {precision}: {error}")
    if not figures:
        raise BackendUnavailable("; ".join(refused))
    return EngineReport(tuple(figures), tuple(refused))


def _measure_entry(engine: Engine, entry: EntryName, compiled: bool, share_s: float, repeats: int) -> EngineFigures:
    return EngineFigures(
        entry=entry,
        width=engine.spec.width,
        height=engine.spec.height,
        backend=f"{engine.backend}{COMPILED if compiled else ''}",
        precision=engine.precision,
        device=engine.device,
        depth=engine.depth,
        batches=tuple(_measure_batch(engine, batch, share_s, repeats) for batch in BATCHES),
    )


def _measure_batch(engine: Engine, batch: int, seconds: float, repeats: int) -> BatchFigures:
    pictures = random_pictures(engine, batch)
    alone = measure(partial(engine.infer, pictures), LATENCY_SHARE * seconds, repeats)
    full = measure_throughput(engine, pictures, (1 - LATENCY_SHARE) * seconds, repeats)
    return BatchFigures(
        batch=batch,
        images_per_s=Spread.of([batch * len(window.laps_ms) / window.seconds for window in full]),
        cpu_ms_per_image=cpu_ms_per_image(full, batch),
        batch_ms=Percentiles.of([lap for window in alone for lap in window.laps_ms]),
        latency_ms=Spread.of([float(np.median(window.laps_ms)) for window in alone]),
        runs=sum(len(window.laps_ms) for window in (*alone, *full)),
    )


def random_pictures(engine: Engine, batch: int) -> Pictures:
    """Pictures (N, H, W, 3) as the engine takes them, the same every time."""
    shape = (batch, engine.spec.height, engine.spec.width, 3)
    return np.random.default_rng(SEED).integers(0, 256, shape, np.uint8)


def measure_throughput(engine: Engine, pictures: Pictures, seconds: float, repeats: int = REPEATS) -> list[Window]:
    """Run a batch over and over, always with as many under way as the engine likes; a lap is a batch that is done."""
    with _kept_busy(engine, pictures) as under_way:

        def lap() -> None:
            under_way.popleft().outputs()
            under_way.append(engine.start(pictures))

        return measure(lap, seconds, repeats)


def cpu_ms_per_image(windows: Sequence[Window], batch: int) -> Spread:
    """CPU time of all threads for each picture."""
    return Spread.of([1e3 * window.cpu_seconds / (batch * len(window.laps_ms)) for window in windows])


@contextmanager
def _kept_busy(engine: Engine, pictures: Pictures) -> Iterator[deque[Running]]:
    under_way = deque(engine.start(pictures) for _ in range(engine.depth))
    try:
        yield under_way
    finally:
        while under_way:
            under_way.popleft().outputs()
