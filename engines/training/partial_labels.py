"""Boxes of pictures whose labels cover some classes only, and of which a detector tells the others."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from engines.boxes import iou_matrix
from engines.data.coco import CocoBox, CocoSet

SAME_IOU = 0.5  # a detector's box that overlaps a labelled one so much shows the same thing
# A picture that nobody labelled: an ignored box that is larger than it.
UNLABELLED = CocoBox(id=-1, image_id=-1, category_id=0, bbox=(0.0, 0.0, 1e6, 1e6), ignore=1)


def merged(
    human: CocoSet, silver: CocoSet | None, files: Sequence[Path], names: tuple[str, ...]
) -> tuple[list[list[CocoBox]], Tensor]:
    """Join labels with a detector's boxes, picture by picture and class by class.

    The labels' boxes all count. For classes that they do not cover in a picture, the detector's boxes come along, but
    for those that lie on a labelled box of any class.

    Args:
        human: the labels.
        silver: the detector's boxes of the same pictures, by file; None: there are none.
        files: N pictures.
        names: C classes; boxes of others are left out.

    Returns:
        The boxes of each picture with their ``category_id`` as place in ``names``, and (N, C) bool: the classes that
        are labelled in it, by either. One that neither lists has an ignored box over it all.
    """
    numbers = {name: number for number, name in enumerate(names)}
    own, more = _named(human, numbers), {} if silver is None else _named(silver, numbers)
    said = {human.pictures[key]: covered for key, covered in human.labelled.items()}
    everything = frozenset(human.categories.values())
    machine = [] if silver is None else [numbers[name] for name in silver.categories.values() if name in numbers]
    rows, known = [], torch.zeros(len(files), len(names), dtype=torch.bool)
    for row, file in enumerate(files):
        if file not in own:
            rows.append([UNLABELLED])
            continue
        covered = {numbers[name] for name in said.get(file, everything) if name in numbers}
        added = [box for box in more.get(file, ()) if box.category_id not in covered and not _on_any(box, own[file])]
        rows.append(own[file] + added)
        known[row, list(covered) + (machine if file in more else [])] = True
    return rows, known


def boxes_by_file(coco: CocoSet, files: Iterable[Path]) -> list[list[CocoBox]]:
    """Return the boxes of each file, of whatever class: :data:`UNLABELLED` for one that the source does not list."""
    found = _by_file(coco)
    return [found.get(file, [UNLABELLED]) for file in files]


def _by_file(coco: CocoSet) -> dict[Path, list[CocoBox]]:
    found: dict[Path, list[CocoBox]] = {path: [] for path in coco.pictures.values()}
    for box in coco.boxes:
        found[coco.pictures[box.image_id]].append(box)
    return found


def _named(coco: CocoSet, numbers: Mapping[str, int]) -> dict[Path, list[CocoBox]]:
    """The boxes of each file, numbered as ``numbers`` says; those of other classes are left out."""
    places = {key: numbers[name] for key, name in coco.categories.items() if name in numbers}
    return {
        file: [
            msgspec.structs.replace(box, category_id=places[box.category_id])
            for box in boxes
            if box.category_id in places
        ]
        for file, boxes in _by_file(coco).items()
    }


def _on_any(box: CocoBox, others: Sequence[CocoBox]) -> bool:
    """Whether a box overlaps one of the others by :data:`SAME_IOU` or more."""
    corners = np.array([box.xyxy, *(other.xyxy for other in others)], np.float32)
    return bool((iou_matrix(corners[:1], corners[1:]) >= SAME_IOU).any())
