"""Labelling folders of pictures by a detector, as COCO JSON with scores."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from engines.arrays import Pixels
from engines.data.reading import PICTURE_SUFFIXES, read_json
from engines.detectors.detector import Found
from engines.errors import DataError
from engines.files import write_whole
from engines.pictures import read_rgb

SAVED_EVERY = 200  # pictures between two writings of the file: what an interrupted run keeps


class SilverPicture(msgspec.Struct, frozen=True):
    """One row of ``images``."""

    id: int
    file_name: str  # relative to the folder
    width: int
    height: int


class SilverBox(msgspec.Struct, frozen=True):
    """One row of ``annotations``."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    area: float
    score: float
    iscrowd: int = 0


class SilverCategory(msgspec.Struct, frozen=True):
    """One row of ``categories``."""

    id: int
    name: str


class SilverFile(msgspec.Struct, kw_only=True):
    """A COCO JSON file of boxes that a machine drew."""

    info: dict[str, str]
    images: list[SilverPicture] = []
    annotations: list[SilverBox] = []
    categories: list[SilverCategory]


def label_folder(
    detect: Callable[[Pixels], Found],
    names: tuple[str, ...],
    folder: Path,
    out: Path,
    description: str,
    *,
    told: Callable[[int, int], None] = lambda done, of: None,
    unread: Callable[[str], None] = lambda sentence: None,
) -> SilverFile:
    """Label all pictures below a folder, and write COCO JSON; pictures that ``out`` has already are passed over.

    Args:
        detect: finds objects in a picture (H, W, 3) RGB.
        names: of the classes, numbered from 1 in the file.
        folder: searched with all its sub-folders.
        out: the file; written every few hundred pictures and at the end, whole or not at all.
        description: goes into the file's ``info``; a file with another one is not gone on with.
        told: called with the pictures that are done, and all.
        unread: called with one sentence for each picture that cannot be read.

    Raises:
        DataError: the folder has no pictures, or ``out`` is of another detector or no such file.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise DataError(f"{folder}: has no pictures")
    content = _begun(out, names, description)
    done = {row.file_name for row in content.images}
    for number, file in enumerate(_left(files, folder, done), start=1):
        try:
            _add(content, file.relative_to(folder).as_posix(), read_rgb(file), detect)
        except DataError as error:
            unread(str(error))
        if number % SAVED_EVERY == 0:
            write_whole(out, msgspec.json.encode(content))
        told(len(done) + number, len(files))
    write_whole(out, msgspec.json.encode(content))
    return content


def _left(files: list[Path], folder: Path, done: set[str]) -> Iterator[Path]:
    return (file for file in files if file.relative_to(folder).as_posix() not in done)


def _begun(out: Path, names: tuple[str, ...], description: str) -> SilverFile:
    """What an earlier run wrote, or an empty file."""
    categories = [SilverCategory(number, name) for number, name in enumerate(names, start=1)]
    if not out.exists():
        return SilverFile(info={"description": description}, categories=categories)
    found = read_json(out, SilverFile, "a file of machine-made labels")
    if found.categories != categories or found.info.get("description") != description:
        raise DataError(f"{out}: was made by another detector or with another score; name another file")
    return found


def _add(content: SilverFile, name: str, picture: Pixels, detect: Callable[[Pixels], Found]) -> None:
    height, width = picture.shape[:2]
    found = detect(picture)
    number = len(content.images) + 1
    content.images.append(SilverPicture(number, name, width, height))
    for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
        x, y, w, h = (round(value, 1) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
        if w >= 1 and h >= 1:
            row = SilverBox(
                len(content.annotations) + 1, number, label + 1, (x, y, w, h), round(w * h), round(score, 3)
            )
            content.annotations.append(row)
