"""The data on disk: COCO annotations, pairs of faces, and folders by class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from engines.errors import DataError

SKIP_SHARE = 0.01  # of the rows of one source; above it the data is refused rather than scored in part
PICTURE_SUFFIXES = frozenset({".webp", ".jpg", ".jpeg", ".png", ".bmp"})
SINGLETONS = "_singletons"  # folder of people with one picture each: NAME__0001.webp

SCENE_FOLDERS = ("imagenette10", "cats_dogs")
SCENE_OF_FOLDER = {"dog_english_springer": "dog"}  # every other folder is called like its scene

Row = TypeVar("Row")
FivePoints = Annotated[list[tuple[float, float]], msgspec.Meta(min_length=5, max_length=5)]  # xy in pixels


class Task(StrEnum):
    """What a model can be scored on."""

    OBJECTS = "objects"
    FACES = "faces"
    SCENE = "scene"
    IDENTITY = "identity"


class Skipped:
    """What could not be read. A few rows may be skipped, and are listed; more make the data unusable."""

    def __init__(self, share: float = SKIP_SHARE) -> None:
        self.rows: list[str] = []
        self._share = share
        self._counts: Counter[str] = Counter()

    def add(self, source: str, total: int, reason: str) -> None:
        """Skip one of the ``total`` rows of ``source``.

        Raises:
            DataError: more than the tolerated share of them is gone.
        """
        self.rows.append(reason)
        self._counts[source] += 1
        if self._counts[source] > self._share * total:
            raise DataError(
                f"{source}: {self._counts[source]} of {total} rows cannot be read, more than "
                f"{self._share:.0%}; the last: {reason}"
            )


class CocoPicture(msgspec.Struct, frozen=True):
    """One row of ``images``."""

    id: int
    file_name: str


class CocoBox(msgspec.Struct, frozen=True):
    """One row of ``annotations``; keys that are not needed here are left alone."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    ignore: int = 0  # 1: neither a miss when not found nor a mistake when found
    iscrowd: int = 0
    keypoints: tuple[float, ...] = ()  # x, y, visibility, five times for a face

    @property
    def ignored(self) -> bool:
        """Whether the box counts for nothing."""
        return bool(self.ignore or self.iscrowd)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The corners, in pixels."""
        x, y, width, height = self.bbox
        return x, y, x + width, y + height


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

    def of(self, pictures: Sequence[int]) -> "CocoSet":
        """The same set with only these picture ids."""
        kept = set(pictures)
        return CocoSet(
            {key: path for key, path in self.pictures.items() if key in kept},
            [box for box in self.boxes if box.image_id in kept],
            self.categories,
        )


def read_coco(
    data: Path, folder: str, annotations: str, skipped: Skipped, limit: int | None = None, *, split: str = "val"
) -> CocoSet:
    """Read ``folder/annotations/<annotations>`` of the data; pictures lie in ``folder/images/<split>``.

    Raises:
        DataError: the file is missing or not COCO JSON, or too many of its rows are broken.
    """
    path = data / folder / "annotations" / annotations
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_CocoFile)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: is not COCO JSON: {error}") from error
    images = data / folder / "images" / split
    rows = _rows(content.images, CocoPicture, path, skipped)
    pictures = {row.id: images / row.file_name for row in spread(rows, limit)}
    boxes = _rows(content.annotations, CocoBox, path, skipped)
    categories = {category.id: category.name for category in content.categories}
    unknown = next((box for box in boxes if box.category_id not in categories), None)
    if unknown is not None:
        raise DataError(f"{path}: annotation {unknown.id} names category {unknown.category_id}, which is not listed")
    return CocoSet(pictures, [box for box in boxes if box.image_id in pictures], categories)


def _rows(raw: list[msgspec.Raw], kind: type[Row], path: Path, skipped: Skipped) -> list[Row]:
    rows = []
    for number, text in enumerate(raw):
        try:
            rows.append(msgspec.json.decode(text, type=kind))
        except msgspec.MsgspecError as error:
            skipped.add(f"{path}, {kind.__name__}", len(raw), f"{path}: {kind.__name__} row {number}: {error}")
    return rows


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of faces, and whether they show one person."""

    first: Path
    second: Path
    genuine: bool

    @property
    def identities(self) -> tuple[str, str]:
        """Who the two pictures show."""
        return identity_of(self.first), identity_of(self.second)


def identity_of(picture: Path) -> str:
    """Who a crop shows: its folder, or its file name among the people with a single picture.

    >>> identity_of(Path("val/Ada/lfw_0001.webp")), identity_of(Path("val/_singletons/Ada__0001.webp"))
    ('Ada', 'Ada')
    """
    folder = picture.parent.name
    return picture.stem.rsplit("__", 1)[0] if folder == SINGLETONS else folder


def read_pairs(path: Path, folder: Path, skipped: Skipped, limit: int | None = None) -> list[Pair]:
    """Read ``first <tab> second <tab> 1 or 0`` lines with paths relative to ``folder``.

    Raises:
        DataError: the file is missing, too many lines are broken, or one kind of pair is missing altogether.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        match line.split("\t"):
            case [first, second, ("0" | "1") as same]:
                pairs.append(Pair(folder / first, folder / second, same == "1"))
            case _:
                skipped.add(str(path), len(lines), f"{path}: line {number} is not two paths and 0 or 1, tab-separated")
    pairs = spread(pairs, limit)
    if len({pair.genuine for pair in pairs}) < 2:
        raise DataError(f"{path}: needs pairs of one person (1) and of two people (0), has {len(pairs)} pairs in all")
    return pairs


def pictures_below(folder: Path) -> list[Path]:
    """All pictures in the sub-folders of ``folder``, in the order of their paths.

    Raises:
        DataError: there are none.
    """
    pictures = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        raise DataError(f"{folder}: has no pictures in sub-folders")
    return pictures


def scene_of(folder: Path) -> str:
    """The scene that a folder of pictures shows."""
    return SCENE_OF_FOLDER.get(folder.name, folder.name)


class FacePoints(msgspec.Struct, frozen=True):
    """Five hand-checked points of one crop, in its pixels."""

    file: str
    points5: FivePoints


def read_points(path: Path, folder: Path) -> dict[Path, list[tuple[float, float]]]:
    """Five points of each crop that has them, by picture path.

    Raises:
        DataError: the file is missing or not a list of points.
    """
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=list[FacePoints])
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: is not a list of face points: {error}") from error
    return {folder / row.file: row.points5 for row in rows}


def spread(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """At most ``limit`` rows, taken evenly from the whole length, so that a sorted list keeps all its classes."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[index] for index in np.linspace(0, len(rows) - 1, limit).astype(int)]
