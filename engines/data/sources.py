"""Where labels come from: the ``format = ...`` tables of a training configuration, and reading what they name.

All paths are relative to the folder of the data.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from engines.data.coco import CocoSet, read_coco_file, with_points
from engines.data.folders import read_points
from engines.data.reading import PICTURE_SUFFIXES, SkippedRows
from engines.data.voc import read_voc
from engines.data.wider import read_wider
from engines.errors import DataError


class _Source(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, tag_field="format"
):
    pass


class Coco(_Source, frozen=True, tag="coco", kw_only=True):
    """A COCO JSON file; five keypoints are a face's landmarks."""

    file: str
    classes: tuple[str, ...] = ()  # keep only these, as they are called once renamed; () keeps all
    rename: dict[str, str] = {}
    points: str | None = None  # file of faces' landmarks by annotation id
    machine_made: tuple[Literal["boxes", "points"], ...] = ()  # what a machine labelled: to learn from, never truth
    only_near: bool = False  # whatever else the pictures show is unlabelled: background is known only near the boxes
    # regular expression of file names -> classes, as they are called once renamed, whose labels are complete there;
    # a picture that says so itself comes first; where nothing is said, all of the file's classes are
    labelled: dict[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        for pattern in self.labelled:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"labelled must have regular expressions as keys, got {pattern!r}: {error}") from error


class Voc(_Source, frozen=True, tag="voc", kw_only=True):
    """Pascal VOC: a folder of XML files, and which of them an image set lists."""

    annotations: str
    image_set: str | None = None  # None: all of them
    classes: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    only_near: bool = False


class Wider(_Source, frozen=True, tag="wider", kw_only=True):
    """A WIDER FACE text file."""

    file: str
    only_near: bool = False


class Folders(_Source, frozen=True, tag="folders", kw_only=True):
    """Folders that hold a folder of pictures for each scene or each person."""

    folders: tuple[str, ...]
    rename: dict[str, str] = {}  # a folder's name -> its label
    points: str | None = None  # file of five points by picture, from which faces are aligned
    embeddings: str | None = None  # file of a teacher's embeddings by picture (:func:`read_embeddings`)
    pairs: str | None = None  # file of pairs to verify, with paths in the one folder; None: pairs are drawn

    def __post_init__(self) -> None:
        for key, file in (("pairs", self.pairs), ("embeddings", self.embeddings)):
            if file is not None and len(self.folders) != 1:
                raise ValueError(f"{key} must be left out where there are {len(self.folders)} folders, not one")


ObjectSource: TypeAlias = Coco | Voc
FaceSource: TypeAlias = Coco | Voc | Wider


def read_boxes(source: FaceSource, data: Path, images: str, skipped: SkippedRows) -> CocoSet:
    """Read boxes whose pictures lie in the folder ``images`` of the data.

    Returns:
        The set with only the kept categories, called and ordered as the source says: as ``classes`` lists them, else
        by their ids.

    Raises:
        DataError: a file is missing or of another kind, too many rows are broken, or a class to keep is not there.
    """
    match source:
        case Coco():
            found = read_coco_file(data / source.file, data / images, skipped)
            if source.points is not None:
                found = with_points(found, data / source.points)
            return _relabel(found, source, data / source.file)
        case Voc():
            listed = None if source.image_set is None else data / source.image_set
            found = read_voc(data / source.annotations, data / images, skipped, listed)
            return _relabel(found, source, data / source.annotations)
        case Wider():
            return read_wider(data / source.file, data / images, skipped)


def _relabel(found: CocoSet, source: Coco | Voc, path: Path) -> CocoSet:
    renamed = {key: source.rename.get(found.categories[key], found.categories[key]) for key in sorted(found.categories)}
    for name in source.classes:
        if name not in renamed.values():
            raise DataError(f"{path}: has no class {name!r} to keep, only {', '.join(renamed.values())}")
    names = list(source.classes or dict.fromkeys(renamed.values()))
    boxes = [
        msgspec.structs.replace(box, category_id=names.index(renamed[box.category_id]))
        for box in found.boxes
        if renamed[box.category_id] in names
    ]
    return CocoSet(found.pictures, boxes, dict(enumerate(names)), _labelled(found, source))


def _labelled(found: CocoSet, source: Coco | Voc) -> dict[int, frozenset[str]]:
    """Which classes each picture's labels cover, as they are called once renamed, where anything says so."""
    said = {key: frozenset(source.rename.get(name, name) for name in names) for key, names in found.labelled.items()}
    for pattern, names in (source.labelled if isinstance(source, Coco) else {}).items():
        said |= {
            key: frozenset(names)
            for key, file in found.pictures.items()
            if key not in said and re.search(pattern, file.name)
        }
    return said


def labelled_pictures(source: Folders, data: Path, *, without: str | None = None) -> Iterator[tuple[str, Path]]:
    """(label, picture) of all sub-folders, in the order of their paths; not those whose names begin with ``without``.

    Raises:
        DataError: a folder does not exist.
    """
    for name in source.folders:
        if not (data / name).is_dir():
            raise DataError(f"{data / name}: no such folder")
        for folder in sorted((data / name).glob("*/")):
            if without is None or not folder.name.startswith(without):
                label = source.rename.get(folder.name, folder.name)
                yield from (
                    (label, file) for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURE_SUFFIXES
                )


def points_of(source: Folders, data: Path) -> dict[Path, list[tuple[float, float]]]:
    """The five points that the source's file names, by picture.

    Raises:
        DataError: the file is missing or not a list of points.
    """
    if source.points is None:
        return {}
    return {
        file: points
        for folder in source.folders
        for file, points in read_points(data / source.points, data / folder).items()
    }
