"""How fast exported networks run: one for all tasks, against one for each."""

import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engines.data.reading import read_json
from engines.engine import Engine, open_engine
from engines.spec import EntryName, Model
from engines.study.comparison import JOINT, Name
from engines.study.writing import write_bytes

SPEED = "speed.json"
BATCH = 8
ROUNDS = 9  # in each of which every entry has its turn, so that a machine that is slower for a while slows all
TURN_S = 0.3
SEED = 0


class EntrySpeed(msgspec.Struct, frozen=True, kw_only=True):
    """An exported entry."""

    name: Name
    entry: EntryName
    images_per_s: float  # median over the rounds
    low: float  # least and greatest of the rounds
    high: float


class EntrySpeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of all networks."""

    fingerprints: dict[Name, str]  # of the models
    backend: str
    precision: str
    device: str
    batch: int = BATCH
    rounds: int = ROUNDS
    entries: tuple[EntrySpeed, ...]
    apart: dict[EntryName, float]  # pictures/s where the single-task entries see each of them one after the other


def speed_of(models: Mapping[Name, Model], work: Path) -> EntrySpeeds:
    """Measure the entries of all networks as ``auto`` runs them; what was measured before is kept in ``work``.

    Raises:
        EngineError: the entries cannot run here.
        DataError: what is kept cannot be read.
    """
    file, fingerprints = work / SPEED, {name: model.fingerprint for name, model in models.items()}
    if file.exists():
        kept = read_json(file, EntrySpeeds, "a measured speed")
        if kept.fingerprints == fingerprints:
            return kept
    speed = _measure(models, fingerprints)
    write_bytes(file, msgspec.json.encode(speed))
    return speed


def _measure(models: Mapping[Name, Model], fingerprints: dict[Name, str]) -> EntrySpeeds:
    with ExitStack() as opened:
        engines = {
            (name, entry): opened.enter_context(open_engine(model, entry))
            for name, model in models.items()
            for entry in model.spec.network.entries
        }
        pictures = {turn: _pictures(engine) for turn, engine in engines.items()}
        seconds: dict[tuple[Name, EntryName], list[float]] = {turn: [] for turn in engines}
        for _ in range(ROUNDS):
            for turn, engine in engines.items():
                seconds[turn].append(_picture_seconds(engine, pictures[turn]))
        first = next(iter(engines.values()))
    entries = tuple(
        EntrySpeed(
            name=name,
            entry=entry,
            images_per_s=round(1 / statistics.median(each), 1),
            low=round(1 / max(each), 1),
            high=round(1 / min(each), 1),
        )
        for (name, entry), each in seconds.items()
    )
    return EntrySpeeds(
        fingerprints=fingerprints,
        backend=first.backend,
        precision=first.precision,
        device=first.device,
        entries=entries,
        apart={entry: _apart(seconds, entry) for entry in models[JOINT].spec.network.entries},
    )


def _apart(seconds: Mapping[tuple[Name, EntryName], list[float]], entry: EntryName) -> float:
    """Pictures/s through the single-task entries one after the other: the median over the rounds."""
    single = [each for (name, its), each in seconds.items() if its == entry and name != JOINT]
    return round(1 / statistics.median(map(sum, zip(*single, strict=True))), 1)


def _pictures(engine: Engine) -> npt.NDArray[np.uint8]:
    shape = (BATCH, engine.spec.height, engine.spec.width, 3)
    return np.random.default_rng(SEED).integers(0, 256, shape, np.uint8)


def _picture_seconds(engine: Engine, pictures: npt.NDArray[np.uint8]) -> float:
    """Seconds of one picture, over a turn of at least :data:`TURN_S`; a first batch does not count."""
    engine.infer(pictures)
    began, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < TURN_S or not count:
        engine.infer(pictures)
        count += 1
    return spent / (count * BATCH)
