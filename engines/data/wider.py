"""WIDER FACE: one text file for all pictures (Yang et al., "WIDER FACE: A Face Detection Benchmark", CVPR 2016)."""

from itertools import pairwise
from pathlib import Path

from engines.data.coco import CocoBox, CocoSet
from engines.data.reading import PICTURE_SUFFIXES, SkippedRows, read_lines
from engines.errors import DataError

INVALID = 7  # column: the face is one that nobody could be asked to find


def read_wider(path: Path, images: Path, skipped: SkippedRows) -> CocoSet:
    """Read ``wider_face_*_bbx_gt.txt``: a picture's name, how many faces it has, and a row for each.

    Invalid faces are ignored. A picture without faces is followed by 0 and by nothing or one row of zeros.

    Raises:
        DataError: the file is missing, names no pictures, or too many of its rows are broken.
    """
    lines = read_lines(path)
    pictures: dict[int, Path] = {}
    boxes: list[CocoBox] = []
    for number, (begin, end) in enumerate(_blocks(lines), start=1):
        pictures[number] = images / lines[begin].strip()
        count = lines[begin + 1].strip() if begin + 1 < end else ""
        rows = range(begin + 2, end)
        if not count.isdecimal() or int(count) > len(rows):
            del pictures[number]  # its faces are not all known, so that the rest of it is no background
            reason = f"the picture in row {begin + 1} is followed by {len(rows)} faces, and their number says {count!r}"
            skipped.add(str(path), len(lines), f"{path}: {reason}")
            continue
        for row in rows[: int(count)]:
            try:
                box, invalid = _face(lines[row])
            except ValueError as error:
                skipped.add(str(path), len(lines), f"{path}: row {row + 1} {error}")
                continue
            boxes.append(CocoBox(id=row + 1, image_id=number, category_id=1, bbox=box, ignore=int(invalid)))
    if not pictures:
        raise DataError(f"{path}: names no pictures")
    return CocoSet(pictures, boxes, {1: "face"})


def _blocks(lines: list[str]) -> list[tuple[int, int]]:
    """First and past-the-last row of each picture, told by the names' suffixes, so that a broken count costs one."""
    begins = [row for row, line in enumerate(lines) if Path(line.strip()).suffix.lower() in PICTURE_SUFFIXES]
    return list(pairwise([*begins, len(lines)]))


def _face(line: str) -> tuple[tuple[float, float, float, float], bool]:
    """A face's x, y, width, height, and whether it is invalid. Raises ValueError."""
    try:
        x, y, width, height, *rest = (float(word) for word in line.split())
    except ValueError:
        raise ValueError(f"is not a face: {line.strip()!r}") from None
    if width <= 0 or height <= 0:
        raise ValueError(f"is a face without area: {line.strip()!r}")
    return (x, y, width, height), len(rest) > INVALID - 4 and rest[INVALID - 4] == 1
