"""Folds for cross-validation: pictures that show the same thing are in one fold, and every fold is a small whole."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from engines.arrays import Double, Rows
from engines.data.duplicates import merged, near
from engines.errors import DataError
from engines.training.datasets import BoxLabels, LoadedDatasets, PictureSet
from engines.training.inspection import picture_hashes

Labels = TypeVar("Labels", PictureSet, BoxLabels)

PER_SET: Final = {"choices"}  # tensors that have no row for each picture


def deal(groups: Rows, strata: Double, folds: int, seed: int) -> Rows:
    """The fold of each picture: whole groups are dealt so that every stratum is spread evenly.

    The largest group comes first, each to the fold that has least of what it holds: a greedy form of the iterative
    stratification of Sechidis et al., "On the Stratification of Multi-Label Data", ECML PKDD 2011, for groups.

    Args:
        groups: (N,) pictures of one number stay together.
        strata: (N, S) how much each picture counts in each stratum.
        folds: how many.
        seed: of the order of equally large groups.

    Returns:
        (N,) numbers from 0 to ``folds`` - 1.
    """
    names, numbers = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), strata.shape[1]))
    np.add.at(counts, numbers, strata)
    # A rare class counts as much as a common one, but for the weight that its column has.
    total, weight = counts.sum(axis=0), strata.max(axis=0, initial=0.0)
    shares = np.divide(counts * weight, total, out=np.zeros_like(counts), where=total > 0)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    load, home = np.zeros((folds, strata.shape[1])), np.zeros(len(names), np.int64)
    for group in shuffled[np.argsort(-shares[shuffled].sum(axis=1), kind="stable")].tolist():
        fold = int(np.lexsort((load.sum(axis=1), load @ shares[group]))[0])
        load[fold] += shares[group]
        home[group] = fold
    return np.asarray(home[numbers], np.int64)


def groups_of(loaded: LoadedDatasets) -> Rows:
    """(N,) which pictures of all sets, one set after the other, show the same thing.

    That is one person, frames of one video where the configuration says how to tell, one file, or pictures that are
    nearly the same by their perceptual hashes. Two crops of faces are never joined by those: all faces look much the
    same to them, and whom each shows is known.
    """
    first, own = len(loaded.identities), []
    for each in loaded.sets:
        groups = np.arange(len(each)) if each.groups is None else each.groups
        if each.kind == "identity":
            own.append(groups)  # numbers of people, who are known by them in every set
        else:
            own.append(groups + first)
            first += int(groups.max()) + 1
    _, files = np.unique([str(file) for each in loaded.sets for file in each.files], return_inverse=True)
    hashes = np.concatenate([picture_hashes(each) for each in loaded.sets])
    order = np.argsort(files, kind="stable")
    same = np.stack([order[:-1], order[1:]], axis=1)[files[order[:-1]] == files[order[1:]]]
    faces = np.concatenate([np.full(len(each), each.entry == "face") for each in loaded.sets])
    alike = near(hashes)
    return merged(np.concatenate(own), np.concatenate([alike[~faces[alike].all(axis=1)], same]))


def split(loaded: LoadedDatasets, folds: int, seed: int) -> list[Rows]:
    """The fold of each picture of each set.

    Raises:
        DataError: a set shows too few different things for so many folds.
    """
    groups = groups_of(loaded)
    fold = deal(groups, strata_of(loaded), folds, seed)
    ends = np.cumsum([len(each) for each in loaded.sets])[:-1]
    for each, own, things in zip(loaded.sets, np.split(fold, ends), np.split(groups, ends), strict=True):
        if len(np.unique(own)) < folds:
            raise DataError(
                f"dataset {each.name!r}: its {len(each)} pictures show {len(np.unique(things))} different things, "
                f"too few for {folds} folds"
            )
    return np.split(fold, ends)


def strata_of(loaded: LoadedDatasets) -> Double:
    """(N, S): a column for each set, and for each class of objects or scenes in it.

    All classes of a set together weigh as much as its size. People are no classes: each is in one fold anyway.
    """
    columns = []
    for number, each in enumerate(loaded.sets):
        classes = [column for column in _classes(each, loaded).T if column.any()]
        for column in [np.full(len(each), float(max(1, len(classes)))), *classes]:
            whole = [np.zeros(len(other)) for other in loaded.sets]
            whole[number] = column
            columns.append(np.concatenate(whole))
    return np.stack(columns, axis=1)


def _classes(data: PictureSet, loaded: LoadedDatasets) -> Double:
    """(N, C) 1 where a picture shows a class."""
    count = len(loaded.labels_of(data.kind))
    if data.kind == "identity":
        return np.zeros((len(data), 0))
    shown = np.zeros((len(data), count))
    if data.labels is not None:
        shown[np.arange(len(data)), data.labels.numpy()] = 1.0
    elif data.objects is not None:
        rows, columns = ((data.objects.classes >= 0) & ~data.objects.ignore).nonzero(as_tuple=True)
        shown[rows.numpy(), data.objects.classes[rows, columns].numpy()] = 1.0
    return shown


def training_part(loaded: LoadedDatasets, folds: Sequence[Rows], held_out: int) -> LoadedDatasets:
    """All sets without the pictures of a fold; people who are left are numbered anew, classes are not."""
    rows = [torch.from_numpy((fold != held_out).nonzero()[0]) for fold in folds]
    sets = [_take(each, chosen) for each, chosen in zip(loaded.sets, rows, strict=True)]
    people = [each.labels for each in sets if each.kind == "identity" and each.labels is not None]
    if not people:
        return replace(loaded, sets=sets)
    left = torch.unique(torch.cat(people))  # sorted
    for number, each in enumerate(sets):
        if each.kind == "identity" and each.labels is not None:
            sets[number] = replace(each, labels=torch.searchsorted(left, each.labels), classes=len(left))
    return replace(loaded, sets=sets, identities=tuple(loaded.identities[label] for label in left.tolist()))


def held_out_files(loaded: LoadedDatasets, folds: Sequence[Rows], held_out: int) -> dict[str, list[Path]]:
    """The files of a fold, by the name of their set."""
    return {
        each.name: [each.files[row] for row in (fold == held_out).nonzero()[0].tolist()]
        for each, fold in zip(loaded.sets, folds, strict=True)
    }


def _take(labels: Labels, rows: Tensor) -> Labels:
    """Some of the pictures of a set, or of its boxes: whatever has a row for each picture loses the same ones."""
    some: dict[str, Any] = {}
    for name, value in ((field.name, getattr(labels, field.name)) for field in fields(labels)):
        match value:
            case BoxLabels():
                some[name] = _take(value, rows)
            case Tensor() if name not in PER_SET:
                some[name] = value[rows]
            case np.ndarray():
                some[name] = value[rows.numpy()]
            case tuple() if name == "files":
                some[name] = tuple(value[row] for row in rows.tolist())
    return replace(labels, **some)
