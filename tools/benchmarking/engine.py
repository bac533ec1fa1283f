"""Raw engine speed: every entry, by backend, precision and batch."""

from collections import deque
from collections.abc import Sequence
from itertools import product
from typing import Final

import msgspec
import numpy as np

from engines.engine import Backend, Engine, Precision, open_engine
from engines.errors import BackendUnavailable, ModelError
from engines.spec import EntryName, Model
from tools.benchmarking.figures import REPEATS, Percentiles, Spread, Window, measure

BATCHES: Final = (1, 2, 4, 8, 16)
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
    entries, wanted = model.spec.network.entries, [(*one, "") for one in product(backends, precisions)]
    wanted += [("torch", precision, COMPILED) for precision in precisions if torch_compile]
    share_s = seconds / (len(entries) * len(wanted) * len(BATCHES))
    for backend, precision, compiled in wanted:
        try:
            for entry in entries:
                with open_engine(model, entry, backend, precision, gpu=gpu, torch_compile=bool(compiled)) as engine:
                    figures.append(_entry(engine, entry, compiled, share_s, repeats))
        except (BackendUnavailable, ModelError) as error:
            if len(wanted) == 1:
                raise
            refused.append(f"{backend}{compiled} {precision}: {error}")
    if not figures:
        raise BackendUnavailable("; ".join(refused))
    return EngineReport(tuple(figures), tuple(refused))


def _entry(engine: Engine, entry: EntryName, compiled: str, seconds: float, repeats: int) -> EngineFigures:
    return EngineFigures(
        entry=entry,
        width=engine.spec.width,
        height=engine.spec.height,
        backend=f"{engine.backend}{compiled}",
        precision=engine.precision,
        device=engine.device,
        depth=engine.depth,
        batches=tuple(_batch(engine, batch, seconds, repeats) for batch in BATCHES),
    )


def _batch(engine: Engine, batch: int, seconds: float, repeats: int) -> BatchFigures:
    alone = measure_throughput(engine, batch, LATENCY_SHARE * seconds, repeats, depth=1)
    full = measure_throughput(engine, batch, (1 - LATENCY_SHARE) * seconds, repeats)
    return BatchFigures(
        batch=batch,
        images_per_s=Spread.of(window.per_s for window in full),
        cpu_ms_per_image=Spread.of(window.cpu_ms for window in full),
        batch_ms=Percentiles.of([lap for window in alone for lap in window.laps_ms]),
        latency_ms=Spread.of(float(np.median(window.laps_ms)) for window in alone),
        runs=sum(len(window.laps_ms) for window in (*alone, *full)),
    )


def measure_throughput(
    engine: Engine, batch: int, seconds: float, repeats: int = REPEATS, depth: int | None = None
) -> list[Window]:
    """Run batches of random pictures, the same every time, always with ``depth`` under way.

    None: as many as the engine likes. With one a call takes as long as its batch.
    """
    shape = batch, engine.spec.height, engine.spec.width, 3
    pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    under_way = deque(engine.start(pictures) for _ in range((depth or engine.depth) - 1))

    def lap() -> None:
        under_way.append(engine.start(pictures))
        under_way.popleft().outputs()

    try:
        return measure(lap, seconds, repeats, each=batch)
    finally:
        while under_way:
            under_way.popleft().outputs()
