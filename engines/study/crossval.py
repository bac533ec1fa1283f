"""Cross-validation: a configuration, or several variants of it, trained and scored fold by fold.

Each fold's network is trained on the other folds and scored, through its exported form, on what it has not seen: the
held-out files with their original labels in source pixels. All variants have the same folds, so they are compared fold
by fold. Finished folds are kept under a hash of everything they depend on; one that was interrupted goes on from its
checkpoint.
"""

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from engines.arrays import Rows
from engines.compiling.validation import evaluate_checkpoint
from engines.data.reading import read_json
from engines.errors import ConfigError, DataError
from engines.evaluation.report import EvaluationReport, headlines
from engines.evaluation.truth import labelled_truth
from engines.study.folds import held_out_files, split, training_part
from engines.study.writing import write_bytes
from engines.training.checkpoint import load_checkpoint
from engines.training.datasets import LoadedDatasets, load_sets
from engines.training.loop import CHECKPOINT, train
from engines.training.settings import TrainingSettings, settings_of

OUTCOME, REPORT = "outcome.json", "report.json"
BASE = "as it is"


@dataclass(frozen=True, slots=True)
class Variant:
    """A configuration, called after what was changed in it."""

    name: str
    settings: TrainingSettings


class FoldOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One finished fold of a variant."""

    key: str  # of settings, data and folds
    variant: str
    fold: int  # that was held out
    steps: int
    seconds: float  # of training
    trained: dict[str, int]  # pictures of each set
    held_out: dict[str, int]
    figures: dict[str, float]  # as in objects.ap50; one that the fold does not have is not there


@dataclass(frozen=True, slots=True)
class FoldProgress:
    """Where a cross-validation is."""

    variant: str
    fold: int
    step: int
    steps: int
    done: int  # folds, of all variants


def choices_of(text: str) -> tuple[str, tuple[object, ...]]:
    """A key and its values of ``KEY=A,B``; the values are TOML, or plain words.

    >>> choices_of("network.activation=relu,silu"), choices_of("temperature=0.2,0.5")
    (('network.activation', ('relu', 'silu')), ('temperature', (0.2, 0.5)))

    Raises:
        ConfigError: there are no two values.
    """
    key, _, values = text.partition("=")
    try:
        found = tuple(tomllib.loads(f"x = [{values}]")["x"])
    except tomllib.TOMLDecodeError:
        found = tuple(word.strip() for word in values.split(","))
    if not key or len(found) < 2 or "" in found:
        raise ConfigError(f"--vary {text}: must be KEY=VALUE,VALUE with two values or more")
    return key.strip(), found


def declared_variants(
    content: Mapping[str, object], what: str, vary: Mapping[str, Sequence[object]]
) -> tuple[Variant, ...]:
    """Every combination of the values of the varied keys, in their order; without keys the configuration as it is.

    Args:
        content: of the configuration's file.
        what: its name, for a refusal.
        vary: values by dotted path; a table of a list is named by its ``name``, as in ``datasets.people.batch``.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    found = []
    for values in product(*vary.values()):
        changed: dict[str, Any] = deepcopy(dict(content))
        for key, value in zip(vary, values, strict=True):
            _set(changed, key, value)
        name = ", ".join(f"{key} = {value}" for key, value in zip(vary, values, strict=True)) or BASE
        found.append(Variant(name, settings_of(changed, f"{what}, {name}" if vary else what)))
    return tuple(found)


def _set(content: dict[str, Any], key: str, value: object) -> None:
    *path, last = key.split(".")
    place: Any = content
    for part in path:
        if isinstance(place, list):
            named = [each for each in place if each.get("name") == part]
            if not named:
                raise ConfigError(f"--vary {key}: {part!r} is the name of none of these tables")
            place = named[0]
        elif isinstance(place, dict):
            place = place.setdefault(part, {})
    if not isinstance(place, dict):
        raise ConfigError(f"--vary {key}: is not the path of a key")
    place[last] = value


class CrossValidation:
    """The folds of all variants.

    Args:
        variants: with the same pictures each.
        data: folder with the data.
        work: folder in which folds are kept; made where it is missing.
        folds: how many, at least 2.
        seed: of the split; the runs have that of their settings.
        stop_at: end each run at this step; None: at the last one of its settings.
        device: on which is trained.

    Raises:
        DataError: the data cannot be used, or shows too few different things for so many folds.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        data: Path,
        work: Path,
        *,
        folds: int,
        seed: int,
        stop_at: int | None,
        device: torch.device,
    ) -> None:
        self.variants, self.folds, self.seed, self.stop_at = tuple(variants), folds, seed, stop_at
        self._data, self._work, self._device = data, work, device
        self._loaded: tuple[object, LoadedDatasets] | None = None  # the sets that are in memory, and whose they are
        first = self._sets(variants[0])
        split_rows = split(first, folds, seed)
        self._home = {
            (each.name, file): int(fold)
            for each, rows in zip(first.sets, split_rows, strict=True)
            for file, fold in zip(each.files, rows, strict=True)
        }
        fingerprint = _fingerprint(first, data)
        self._keys = {
            (variant.name, fold): self._key(variant, fold, fingerprint) for variant in variants for fold in range(folds)
        }
        self._outcomes = {key: self._kept(key) for key in self._keys.values() if (work / key / OUTCOME).is_file()}

    @property
    def outcomes(self) -> list[FoldOutcome]:
        """The finished folds, variant by variant."""
        return [
            msgspec.structs.replace(self._outcomes[key], variant=name)  # it may have been kept under another one
            for (name, _), key in self._keys.items()
            if key in self._outcomes
        ]

    @property
    def steps(self) -> int:
        """Training steps of all folds."""
        return self.folds * sum(self._end(variant) for variant in self.variants)

    @property
    def steps_done(self) -> int:
        """Those of the finished folds."""
        return sum(outcome.steps for outcome in self.outcomes)

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[FoldProgress]:
        """Do the folds that are not finished yet, a training step at a time.

        Args:
            stop: asked after each step whether to end early; what was done is gone on with the next time.

        Raises:
            DataError: the data cannot be used.
            TrainingError: a loss is no longer a number.
        """
        for variant in self.variants:
            for fold in range(self.folds):
                key = self._keys[variant.name, fold]
                if key in self._outcomes:
                    continue
                loaded = self._sets(variant)
                homes = self._rows(loaded)
                yield from self._train(variant, fold, training_part(loaded, homes, fold), stop)
                if not self._measure(variant, fold, loaded, homes):
                    return

    def _sets(self, variant: Variant) -> LoadedDatasets:
        """The sets of a variant; variants that read them alike share them."""
        own = variant.settings.datasets
        if self._loaded is None or self._loaded[0] != own:
            self._loaded = None  # before the next ones need the memory
            self._loaded = own, load_sets(own, self._data)
        return self._loaded[1]

    def _rows(self, loaded: LoadedDatasets) -> list[Rows]:
        """The fold of each picture of each set: that which it has in the first variant."""
        for each in loaded.sets:
            for file in each.files:
                if (each.name, file) not in self._home:
                    raise DataError(f"--vary must leave the pictures of {each.name!r} as they are, {file} is another")
        return [np.array([self._home[each.name, file] for file in each.files], np.int64) for each in loaded.sets]

    def _train(
        self, variant: Variant, fold: int, loaded: LoadedDatasets, stop: Callable[[], bool]
    ) -> Iterator[FoldProgress]:
        folder = self._work / self._keys[variant.name, fold]
        steps = train(
            variant.settings,
            self._data,
            folder,
            resume=True,
            device=self._device,
            stop_at=self.stop_at,
            loaded=loaded,
            stop=stop,
        )
        for now in steps:
            yield FoldProgress(variant.name, fold, now.step, self._end(variant), len(self._outcomes))

    def _measure(self, variant: Variant, fold: int, loaded: LoadedDatasets, homes: Sequence[Rows]) -> bool:
        """Score a fold's network on what was held out; whether it had all of its steps."""
        key = self._keys[variant.name, fold]
        saved = load_checkpoint(self._work / key / CHECKPOINT)
        if saved.step < self._end(variant):
            return False
        files = held_out_files(loaded, homes, fold)
        truth = labelled_truth(variant.settings.datasets, self._data, only=files)
        report = evaluate_checkpoint(saved, truth, variant.settings.frame_size)
        write_bytes(self._work / key / REPORT, msgspec.json.format(msgspec.json.encode(report), indent=1))
        outcome = FoldOutcome(
            key=key,
            variant=variant.name,
            fold=fold,
            steps=saved.step,
            seconds=round(saved.seconds, 1),
            trained={each.name: len(each) - len(files[each.name]) for each in loaded.sets},
            held_out={name: len(each) for name, each in files.items()},
            figures=figures_of(report),
        )
        write_bytes(self._work / key / OUTCOME, msgspec.json.encode(outcome))
        self._outcomes[key] = outcome
        return True

    def _end(self, variant: Variant) -> int:
        return min(variant.settings.steps, self.stop_at or variant.settings.steps)

    def _kept(self, key: str) -> FoldOutcome:
        return read_json(self._work / key / OUTCOME, FoldOutcome, "an outcome of a fold")

    def _key(self, variant: Variant, fold: int, fingerprint: str) -> str:
        """16 hex digits that change with anything that a fold depends on, but for its name and the code."""
        settings = msgspec.structs.replace(variant.settings, name="-", validation_sets=())
        plan = f"{fingerprint} {fold} of {self.folds}, seed {self.seed}, to {self.stop_at}"
        return hashlib.sha256(msgspec.json.encode(settings) + plan.encode()).hexdigest()[:16]


def figures_of(report: EvaluationReport) -> dict[str, float]:
    """The headline figures of a report, as in ``objects.ap50``."""
    return {f"{line.task}.{line.figure}": value for line, value in headlines(report).items()}


def _fingerprint(loaded: LoadedDatasets, data: Path) -> str:
    """Changes when a picture comes, goes, or gets another size or label."""
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
