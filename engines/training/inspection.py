"""What is in the training sets: counts, broken rows, duplicates, and contact sheets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import torch

from engines.arrays import Hashes, Pixels
from engines.data.duplicates import near, perceptual_hash
from engines.data.reading import PICTURE_SUFFIXES, spread
from engines.errors import DataError
from engines.pictures import read_rgb
from engines.training.augmentation import Augmenter
from engines.training.canvases import READERS
from engines.training.datasets import BoxLabels, LoadedDatasets, PictureSet
from engines.training.drawing import CELL, drawn, sheet
from engines.training.preview import STILL

SMALL_PX, MEDIUM_PX = 32, 96  # sides of the squares that bound COCO's sizes
EXAMPLES = 5
COLUMNS, ROWS = 8, 4


class BoxReport(msgspec.Struct, frozen=True, kw_only=True):
    """The boxes of one task in one set."""

    boxes: int  # without the ignored ones
    ignored: int
    by_class: dict[str, int]
    by_size: dict[str, int]  # on the canvas: small below 32 x 32 pixels, medium below 96 x 96, large
    with_landmarks: int


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures that are in two places."""

    first: str
    second: str
    pairs: int
    examples: list[tuple[str, str]]


class SetReport(msgspec.Struct, frozen=True, kw_only=True):
    """One training set."""

    name: str
    kind: str
    pictures: int
    broken: list[str]
    groups: int  # how many different things its pictures show, where that is known
    objects: BoxReport | None
    faces: BoxReport | None
    by_label: dict[str, int]  # pictures of each scene or person
    duplicates: Overlap


class DataReport(msgspec.Struct, frozen=True, kw_only=True):
    """All sets of a configuration."""

    datasets: list[SetReport]
    overlaps: list[Overlap]  # between datasets
    leaks: list[Overlap]  # between a dataset and pictures that it must not know
    refusals: list[str]  # why training would refuse the data


def inspect(loaded: LoadedDatasets, against: Sequence[Path] = ()) -> DataReport:
    """Count what is there, and look for pictures that are there twice.

    Args:
        loaded: the sets.
        against: folders of pictures that training must not know, such as the validation pictures.

    Raises:
        DataError: a folder of ``against`` holds no pictures.
    """
    known = [(each.name, picture_hashes(each), each.files) for each in loaded.sets]
    others = [(str(folder), *_hashes_below(folder)) for folder in against]
    overlaps = [_overlap(*one, *other) for row, one in enumerate(known) for other in known[row + 1 :]]
    leaks = [_overlap(*one, *other) for one in known for other in others]
    return DataReport(
        datasets=[
            _set_report(each, loaded, _overlap(*one, one[0], None, one[2]))
            for each, one in zip(loaded.sets, known, strict=True)
        ],
        overlaps=[each for each in overlaps if each.pairs],
        leaks=[each for each in leaks if each.pairs],
        refusals=list(loaded.refusals),
    )


def contact_sheet(data: PictureSet, loaded: LoadedDatasets) -> Pixels:
    """Pictures from the whole length of a set as they lie on their canvases, with their labels drawn in."""
    chosen = torch.tensor(spread(range(len(data)), COLUMNS * ROWS))
    batch = Augmenter(STILL, torch.Generator())(data, chosen, (CELL, CELL))
    cells = drawn(batch, loaded.objects, loaded.labels_of(data.kind))
    lines = [cells[begin : begin + COLUMNS] for begin in range(0, len(cells), COLUMNS)]
    return sheet([(data.name if row == 0 else "", line) for row, line in enumerate(lines)], COLUMNS)


def _set_report(data: PictureSet, loaded: LoadedDatasets, duplicates: Overlap) -> SetReport:
    names = loaded.labels_of(data.kind)
    by_label = [] if data.labels is None else torch.bincount(data.labels, minlength=len(names)).tolist()
    return SetReport(
        name=data.name,
        kind=data.kind,
        pictures=len(data),
        broken=list(data.broken),
        groups=len(data) if data.groups is None else len(np.unique(data.groups)),
        objects=None if data.objects is None else _box_report(data.objects, names),
        faces=None if data.faces is None else _box_report(data.faces, ("face",)),
        by_label={name: count for name, count in zip(names, by_label, strict=False) if count},
        duplicates=duplicates,
    )


def _box_report(labels: BoxLabels, names: Sequence[str]) -> BoxReport:
    real = (labels.classes >= 0) & ~labels.ignore
    area = (labels.boxes[..., 2:] - labels.boxes[..., :2]).prod(-1)[real]
    small, medium = (int((area < side**2).sum()) for side in (SMALL_PX, MEDIUM_PX))
    by_class = torch.bincount(labels.classes[real], minlength=len(names)).tolist()
    known = labels.known.any(0).tolist() if labels.known is not None else [True] * len(names)
    return BoxReport(
        boxes=int(real.sum()),
        ignored=int(((labels.classes >= 0) & labels.ignore).sum()),
        by_class={name: count for name, count, there in zip(names, by_class, known, strict=True) if there},
        by_size={"small": small, "medium": medium - small, "large": len(area) - medium},
        with_landmarks=0 if labels.has_landmarks is None else int(labels.has_landmarks[real].sum()),
    )


def picture_hashes(data: PictureSet) -> Hashes:
    """Perceptual hashes (N,) of the pictures of a set, as they lie on their canvases."""
    sizes = data.extents.int().tolist()
    canvases = data.pictures.numpy()
    pairs = zip(canvases, sizes, strict=True)
    return np.array([perceptual_hash(canvas[:height, :width]) for canvas, (width, height) in pairs], np.uint64)


def _hashes_below(folder: Path) -> tuple[Hashes, tuple[Path, ...]]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise DataError(f"--against {folder}: holds no pictures")

    def one(file: Path) -> int | None:
        try:
            return perceptual_hash(read_rgb(file))
        except DataError:  # whoever reads these pictures for what they are says so
            return None

    with ThreadPoolExecutor(READERS) as pool:
        found = [(code, file) for code, file in zip(pool.map(one, files), files, strict=True) if code is not None]
    return np.array([code for code, _ in found], np.uint64), tuple(file for _, file in found)


def _overlap(
    first: str, ours: Hashes, files: Sequence[Path], second: str, theirs: Hashes | None, others: Sequence[Path]
) -> Overlap:
    pairs = near(ours, theirs)
    examples = [(str(files[a]), str(others[b])) for a, b in pairs[:EXAMPLES].tolist()]
    return Overlap(first=first, second=second, pairs=len(pairs), examples=examples)
