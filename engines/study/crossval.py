"""Cross-validation: a configuration, or several variants of it, trained and scored fold by fold.

Each fold's network is trained on the other folds and scored, through its exported form, on what it has not seen: the
held-out files with their original labels in source pixels. All variants have the same folds, so they are compared fold
by fold. Finished folds are kept under a hash of everything they depend on; one that was interrupted goes on from its
checkpoint.
"""

from collections.abc import Generator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec.structs import replace

from engines.arrays import Rows
from engines.compiling.validation import evaluate_checkpoint
from engines.errors import ConfigError, DataError
from engines.evaluation.report import headlines
from engines.evaluation.truth import labelled_truth
from engines.files import write_whole
from engines.study.folds import held_out_files, split, training_part
from engines.study.runs import RunOutcome, Stop, Study, StudyRun, fingerprint, key_of, trained
from engines.toml import TomlError, parse_toml
from engines.training.datasets import LoadedDatasets, load_sets
from engines.training.settings import TrainingSettings, settings_of

REPORT = "report.json"
BASE = "as it is"


class FoldOutcome(RunOutcome, frozen=True, kw_only=True):
    """One finished fold of a variant; its number is that of the fold that was held out."""

    steps: int
    seconds: float  # of training
    trained: dict[str, int]  # pictures of each set
    held_out: dict[str, int]
    figures: dict[str, float]  # as in objects.ap50; one that the fold does not have is not there


def choices_of(text: str) -> tuple[str, tuple[object, ...]]:
    """A key and its values of ``KEY=A,B``; the values are TOML, or plain words.

    >>> choices_of("network.activation=relu,silu"), choices_of("temperature=0.2,0.5")
    (('network.activation', ('relu', 'silu')), ('temperature', (0.2, 0.5)))

    Raises:
        ConfigError: there are no two values.
    """
    key, _, values = text.partition("=")
    try:
        found = tuple(parse_toml(f"x = [{values}]")["x"])
    except TomlError:
        found = tuple(word.strip() for word in values.split(","))
    if not key or len(found) < 2 or "" in found:
        raise ConfigError(f"--vary {text}: must be KEY=VALUE,VALUE with two values or more")
    return key.strip(), found


def declared_variants(
    content: Mapping[str, object], what: str, vary: Mapping[str, Sequence[object]]
) -> dict[str, TrainingSettings]:
    """Every combination of the values of the varied keys, in their order; without keys the configuration as it is.

    Each is called after what was changed in it.

    Args:
        content: of the configuration's file.
        what: its name, for a refusal.
        vary: values by dotted path; a table of a list is named by its ``name``, as in ``datasets.people.batch``.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    found = {}
    for values in product(*vary.values()):
        changed: dict[str, Any] = deepcopy(dict(content))
        for key, value in zip(vary, values, strict=True):
            _set(changed, key, value)
        name = ", ".join(f"{key} = {value}" for key, value in zip(vary, values, strict=True)) or BASE
        found[name] = settings_of(changed, f"{what}, {name}" if vary else what)
    return found


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


class CrossValidation(Study[TrainingSettings, FoldOutcome]):
    """The folds of all variants.

    Args:
        variants: settings by name, with the same pictures each.
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
        variants: Mapping[str, TrainingSettings],
        data: Path,
        work: Path,
        *,
        folds: int,
        seed: int,
        stop_at: int | None,
        device: torch.device,
    ) -> None:
        self._data, self._device = data, device
        self._loaded: tuple[object, LoadedDatasets] | None = None  # the sets that are in memory, and whose they are
        first = self._sets(next(iter(variants.values())))
        self._home = {
            (each.name, file): int(fold)
            for each, rows in zip(first.sets, split(first, folds, seed), strict=True)
            for file, fold in zip(each.files, rows, strict=True)
        }
        plan = (fingerprint(first, data), f"of {folds}, seed {seed}, to {stop_at}")
        keyed = {name: key_of(replace(each, validation_sets=()), *plan) for name, each in variants.items()}
        runs = (
            StudyRun(name, fold, each, min(each.steps, stop_at or each.steps), f"{keyed[name]}-{fold}")
            for name, each in variants.items()
            for fold in range(folds)
        )
        super().__init__(runs, work, FoldOutcome)

    def _sets(self, settings: TrainingSettings) -> LoadedDatasets:
        """The sets of a variant; variants that read them alike share them."""
        own = settings.datasets
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

    def _do(self, run: StudyRun[TrainingSettings], stop: Stop) -> Generator[int, None, FoldOutcome | None]:
        """Train without a fold, and score the network on what was held out."""
        loaded, folder = self._sets(run.settings), self.folder(run)
        homes = self._rows(loaded)
        part = training_part(loaded, homes, run.number)
        saved = yield from trained(run, self._data, folder, part, self._device, stop)
        if saved is None:
            return None
        files = held_out_files(loaded, homes, run.number)
        truth = labelled_truth(run.settings.datasets, self._data, only=files)
        report = evaluate_checkpoint(saved, truth, run.settings.frame_size)
        write_whole(folder / REPORT, msgspec.json.format(msgspec.json.encode(report), indent=1))
        return FoldOutcome(
            name=run.name,
            number=run.number,
            steps=saved.step,
            seconds=round(saved.seconds, 1),
            trained={each.name: len(each) for each in part.sets},
            held_out={name: len(each) for name, each in files.items()},
            figures={f"{line.task}.{line.figure}": value for line, value in headlines(report).items()},
        )
