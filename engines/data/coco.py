"""Boxes as COCO keeps them, and the reader of COCO JSON. The other box formats are read into the same shape."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from engines.data.reading import Row, SkippedRows, read_json, spread
from engines.errors import DataError
from engines.undecodable import UNDECODABLE

FivePoints = Annotated[list[tuple[float, float]], msgspec.Meta(min_length=5, max_length=5)]  # xy in pixels


class CocoPicture(msgspec.Struct, frozen=True):
    """One row of ``images``."""

    id: int
    file_name: str
    labelled: tuple[str, ...] | None = None  # names of the classes whose labels are complete here; None: not said


class CocoBox(msgspec.Struct, frozen=True):
    """One row of ``annotations``; keys that are not needed here are left alone."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    ignore: int = 0  # 1: neither a miss when not found nor a mistake when found
    iscrowd: int = 0
    keypoints: tuple[float, ...] = ()  # x, y, visibility, five times for a face
    attr: str | None = None  # what else was said of it
    score: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 1.0  # of whoever drew it: below 1 for a machine

    @property
    def ignored(self) -> bool:
        """Whether the box counts for nothing."""
        return bool(self.ignore or self.iscrowd)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The corners, in pixels."""
        x, y, width, height = self.bbox
        return x, y, x + width, y + height

    @property
    def points5(self) -> tuple[tuple[float, float], ...] | None:
        """Five landmarks xy in pixels; None where the row has not just five, or one is not labelled."""
        xs, ys, visible = self.keypoints[::3], self.keypoints[1::3], self.keypoints[2::3]
        return tuple(zip(xs, ys, strict=True)) if len(visible) == 5 and all(visible) else None


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _CocoFile(msgspec.Struct, frozen=True):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[_Category]


@dataclass(frozen=True, slots=True)
class CocoSet:
    """Annotated pictures of one task."""

    pictures: dict[int, Path]  # by picture id
    boxes: list[CocoBox]
    categories: dict[int, str]  # id -> name
    labelled: dict[int, frozenset[str]] = field(default_factory=dict)  # by picture id, where a picture says so

    def of(self, pictures: Sequence[int]) -> "CocoSet":
        """The same set with only these picture ids."""
        kept = set(pictures)
        return CocoSet(
            {key: path for key, path in self.pictures.items() if key in kept},
            [box for box in self.boxes if box.image_id in kept],
            self.categories,
            {key: names for key, names in self.labelled.items() if key in kept},
        )


def read_coco(data: Path, folder: str, annotations: str, skipped: SkippedRows, limit: int | None = None) -> CocoSet:
    """Read ``folder/annotations/<annotations>`` of the data; pictures lie in ``folder/images/val``.

    Raises:
        DataError: the file is missing or not COCO JSON, or too many of its rows are broken.
    """
    return read_coco_file(data / folder / "annotations" / annotations, data / folder / "images/val", skipped, limit)


def read_coco_file(path: Path, images: Path, skipped: SkippedRows, limit: int | None = None) -> CocoSet:
    """Read a COCO JSON file whose pictures lie below ``images``.

    Raises:
        DataError: the file is missing or not COCO JSON, or too many of its rows are broken.
    """
    content = read_json(path, _CocoFile, "COCO JSON")
    rows = _rows(content.images, CocoPicture, path, skipped)
    chosen = spread(rows, limit)
    pictures = {row.id: images / row.file_name for row in chosen}
    labelled = {row.id: frozenset(row.labelled) for row in chosen if row.labelled is not None}
    listed = {row.id for row in rows}
    boxes = []
    for box in _rows(content.annotations, CocoBox, path, skipped):
        if box.image_id in listed and box.bbox[2] > 0 and box.bbox[3] > 0:
            boxes.append(box)
        else:
            why = "has no area" if box.image_id in listed else f"is of picture {box.image_id}, which is not listed"
            skipped.add(f"{path}, CocoBox", len(content.annotations), f"{path}: annotation {box.id} {why}")
    categories = {category.id: category.name for category in content.categories}
    unknown = next((box for box in boxes if box.category_id not in categories), None)
    if unknown is not None:
        raise DataError(f"{path}: annotation {unknown.id} names category {unknown.category_id}, which is not listed")
    return CocoSet(pictures, [box for box in boxes if box.image_id in pictures], categories, labelled)


def _rows(raw: list[msgspec.Raw], kind: type[Row], path: Path, skipped: SkippedRows) -> list[Row]:
    rows = []
    for number, text in enumerate(raw):
        try:
            rows.append(msgspec.json.decode(text, type=kind))
        except UNDECODABLE as error:
            skipped.add(f"{path}, {kind.__name__}", len(raw), f"{path}: {kind.__name__} row {number}: {error}")
    return rows


class _AnnotationPoints(msgspec.Struct, frozen=True):
    annotation_id: int
    points5: FivePoints


class _PointsFile(msgspec.Struct, frozen=True):
    landmarks: list[_AnnotationPoints]


def with_points(coco: CocoSet, path: Path) -> CocoSet:
    """The same set with the five landmarks that a file lists by annotation id.

    Raises:
        DataError: the file is missing or not a file of face points.
    """
    known = {row.annotation_id: row.points5 for row in read_json(path, _PointsFile, "a file of face points").landmarks}
    boxes = [
        msgspec.structs.replace(box, keypoints=tuple(v for x, y in known[box.id] for v in (x, y, 2.0)))
        if box.id in known
        else box
        for box in coco.boxes
    ]
    return CocoSet(coco.pictures, boxes, coco.categories, coco.labelled)
