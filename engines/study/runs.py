"""The runs of a study: done one after the other and kept, so that an interrupted study goes on."""

import hashlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import torch
from msgspec.structs import replace

from engines.data.reading import read_json
from engines.files import write_whole
from engines.spec import TaskName
from engines.training.checkpoint import Checkpoint, load_checkpoint
from engines.training.datasets import LoadedDatasets
from engines.training.loop import CHECKPOINT, train
from engines.training.settings import TrainingSettings

OUTCOME = "outcome.json"

Stop = Callable[[], bool]

Settings = TypeVar("Settings", bound=msgspec.Struct)


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run; studies say what it gave."""

    name: str  # of the variant, the network or the step
    number: int  # the fold that was held out, or the seed


Outcome = TypeVar("Outcome", bound=RunOutcome)


@dataclass(frozen=True, slots=True)
class StudyRun(Generic[Settings]):
    """A run that is to be done once, as many ``steps`` (or epochs) long."""

    name: str
    number: int
    settings: Settings
    steps: int
    key: str  # changes with anything that the run depends on, but for its name and the code


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """Where a study is: after a step of a run, when ``done`` runs are finished."""

    name: str
    number: int
    step: int
    steps: int
    done: int


class Study(Generic[Settings, Outcome]):
    """Runs, and the outcomes of those that are finished, each in the folder ``work``/KEY.

    Raises:
        DataError: what is kept in ``work`` cannot be read.
    """

    def __init__(self, runs: Iterable[StudyRun[Settings]], work: Path, kind: type[Outcome]) -> None:
        self.runs = tuple(runs)
        self._work = work
        files = {run.key: self.folder(run) / OUTCOME for run in self.runs}
        self._kept = {
            key: read_json(file, kind, "an outcome of a run") for key, file in files.items() if file.is_file()
        }

    @property
    def outcomes(self) -> list[Outcome]:
        """The finished runs, in the order of all."""
        kept = ((run, self._kept[run.key]) for run in self.runs if run.key in self._kept)
        return [replace(it, name=run.name, number=run.number) for run, it in kept]

    @property
    def steps_done(self) -> int:
        """Steps of the finished runs."""
        return sum(run.steps for run in self.runs if run.key in self._kept)

    @property
    def over(self) -> bool:
        """Whether all runs are finished."""
        return len(self.outcomes) == len(self.runs)

    def folder(self, run: StudyRun[Settings]) -> Path:
        """Where a run is kept."""
        return self._work / run.key

    def run(self, stop: Stop = lambda: False) -> Iterator[StudyProgress]:
        """Do the runs that are not finished yet, a step at a time.

        Args:
            stop: asked after each step whether to end early; what was done is gone on with the next time.

        Raises:
            DataError: the data cannot be used.
            TrainingError: a loss is no longer a number.
        """
        for run in self.runs:
            if run.key not in self._kept:
                yield from self._follow(run, stop)
                if run.key not in self._kept:
                    return

    def _follow(self, run: StudyRun[Settings], stop: Stop) -> Generator[StudyProgress, None, None]:
        done, doing = len(self.outcomes), self._do(run, stop)
        while True:
            try:
                yield StudyProgress(run.name, run.number, next(doing), run.steps, done)
            except StopIteration as end:
                if end.value is not None:
                    self.folder(run).mkdir(parents=True, exist_ok=True)
                    write_whole(self.folder(run) / OUTCOME, msgspec.json.encode(end.value))
                    self._kept[run.key] = end.value
                return

    def _do(self, run: StudyRun[Settings], stop: Stop) -> Generator[int, None, Outcome | None]:
        """Do a run, yielding its steps; its outcome, or None where it was stopped before its end."""
        raise NotImplementedError


def key_of(settings: msgspec.Struct, *more: object) -> str:
    """16 hex digits that change with settings, but for their name, and with what else is given."""
    text = msgspec.json.encode(replace(settings, name="-")) + repr(more).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def fingerprint(loaded: LoadedDatasets, data: Path) -> str:
    """Changes when a picture of the sets comes, goes, or gets another size or label."""
    digest = hashlib.sha256()
    for each in loaded.sets:
        for file in each.files:
            digest.update(f"{each.name} {file.relative_to(data)} {file.stat().st_size}\n".encode())
        for boxes in (each.objects, each.faces):
            for labels in (boxes.boxes, boxes.classes, boxes.ignore, boxes.landmarks) if boxes else ():
                digest.update(b"" if labels is None else labels.numpy().tobytes())
        digest.update(b"" if each.labels is None else each.labels.numpy().tobytes())
    digest.update(repr((loaded.objects, loaded.scenes, loaded.identities)).encode())
    return digest.hexdigest()


def trained(
    run: StudyRun[TrainingSettings],
    data: Path,
    folder: Path,
    loaded: LoadedDatasets,
    device: torch.device,
    stop: Stop,
    tasks: Collection[TaskName] | None = None,
) -> Generator[int, None, Checkpoint | None]:
    """Train a run, or go on with it, without validation; None where it was stopped before its last step.

    Raises:
        DataError: the data cannot be used.
        TrainingError: a loss is no longer a number.
    """
    steps = train(
        run.settings,
        data,
        folder,
        resume=True,
        device=device,
        stop_at=run.steps,
        loaded=loaded,
        tasks=tasks,
        stop=stop,
    )
    for now in steps:
        yield now.step
    saved = load_checkpoint(folder / CHECKPOINT)
    return saved if saved.step >= run.steps else None
