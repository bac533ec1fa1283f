"""Sequences of detections and true tracks in the text of MOTChallenge.

One row for each box: frame, id, left, top, width, height, score or flag, class (https://motchallenge.net/instructions).
"""

import configparser
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from engines.arrays import Float, Ints
from engines.errors import DataError

SURE_SCORE: Final = 0.7  # files of detections do not say it; chosen on every second KITTI sequence
CLASSES: Final = {-1: "any", 1: "pedestrian", 2: "cyclist", 3: "car"}  # in the eighth column


@dataclass(frozen=True, slots=True)
class Rows:
    """Boxes of a sequence, in the order of their frames."""

    frames: Ints  # (N,) from 1
    ids: Ints  # (N,) -1 where there is none
    boxes: Float  # (N, 4) xyxy pixels
    scores: Float  # (N,) of detections in [0, 1]; of true boxes 1, or 0 where they do not count
    classes: npt.NDArray[np.int32]  # (N,)

    def __len__(self) -> int:
        return len(self.frames)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """The rows where ``chosen`` (N,) is True."""
        return type(self)(*(part[chosen] for part in self._parts()))

    def by_frame(self, length: int) -> list[Self]:
        """The rows of each of the frames 1 to ``length``."""
        bounds = np.searchsorted(self.frames, np.arange(1, length + 2))
        return [type(self)(*(part[start:stop] for part in self._parts())) for start, stop in pairwise(bounds.tolist())]

    def renumbered(self, after: int) -> Self:
        """The rows with ``after`` added to their ids."""
        return replace(self, ids=self.ids + after)

    @classmethod
    def joined(cls, several: Iterable[Self]) -> Self:
        """All rows of several, in the order of their frames."""
        parts = [np.concatenate(part) for part in zip(*(rows._parts() for rows in several), strict=True)]
        order = np.argsort(parts[0], kind="stable")
        return cls(*(part[order] for part in parts))

    def _parts(self) -> tuple[Any, ...]:
        return self.frames, self.ids, self.boxes, self.scores, self.classes


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a detector saw in a video, and what there was."""

    name: str
    rate: float  # frames per second
    size: tuple[int, int]  # width, height
    length: int  # frames
    detections: Rows
    truth: Rows

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes of which there are true tracks."""
        return tuple(np.unique(self.truth.classes[self.truth.scores > 0]).tolist())

    def of_class(self, label: int) -> Self:
        """The detections and true boxes of one class; the boxes that do not count stay, whatever their class."""
        truth = self.truth
        return replace(
            self,
            detections=self.detections.where(self.detections.classes == label),
            truth=truth.where((truth.classes == label) | (truth.scores == 0)),
        )


def read_sequences(folder: Path) -> list[Sequence]:
    """Every sequence under ``folder`` that has detections, by name.

    Raises:
        DataError: there is none, or one cannot be read.
    """
    found = sorted(path.parent.parent for path in folder.glob("*/det/det.txt"))
    if not found:
        raise DataError(f"{folder}: has no sequence with detections (SEQUENCE/det/det.txt)")
    return [read_sequence(path) for path in found]


def read_sequence(folder: Path) -> Sequence:
    """One sequence: ``seqinfo.ini``, ``det/det.txt`` and ``gt/gt.txt``.

    Raises:
        DataError: a file is missing, or is not what it should be.
    """
    rate, size = _info(folder / "seqinfo.ini")
    detections, truth = read_rows(folder / "det" / "det.txt"), read_rows(folder / "gt" / "gt.txt")
    length = int(max(detections.frames.max(initial=0), truth.frames.max(initial=0)))
    return Sequence(folder.name, rate, size, length, detections, truth)


def _info(path: Path) -> tuple[float, tuple[int, int]]:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["Sequence"]
        rate, size = float(section["frameRate"]), (int(section["imWidth"]), int(section["imHeight"]))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, configparser.Error, KeyError, ValueError) as error:
        raise DataError(f"{path}: [Sequence] must have the numbers frameRate, imWidth and imHeight") from error
    if not rate > 0:
        raise DataError(f"{path}: frameRate is {rate:g}, but must be above 0")
    return rate, size


def read_rows(path: Path) -> Rows:
    """The boxes of a MOTChallenge file, in the order of their frames.

    Raises:
        DataError: the file cannot be read, or a row is not numbers.
    """
    try:
        table = np.loadtxt(path, delimiter=",", usecols=range(8), ndmin=2)
    except OSError as error:
        raise DataError(f"{path}: cannot be read") from error
    except ValueError as error:
        raise DataError(f"{path}: a row does not have eight numbers: {error}") from error
    table = table[np.argsort(table[:, 0], kind="stable")]
    corners = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
    return Rows(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        corners.astype(np.float32),
        table[:, 6].astype(np.float32),
        table[:, 7].astype(np.int32),
    )


def text_of(rows: Rows) -> str:
    """The rows as MOTChallenge text, the class in the eighth column."""
    columns = (rows.frames, rows.ids, rows.boxes, rows.scores, rows.classes)
    return "".join(
        f"{frame},{track},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},{score:.4f},{label},-1,-1\n"
        for frame, track, (left, top, right, bottom), score, label in zip(
            *(column.tolist() for column in columns), strict=True
        )
    )
