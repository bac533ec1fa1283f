"""Pictures by class: a folder for each scene or each person, and files with points of single crops."""

from pathlib import Path

import msgspec

from engines.data.coco import FivePoints
from engines.data.reading import PICTURE_SUFFIXES, read_json
from engines.errors import DataError

SCENE_FOLDERS = ("imagenette10", "cats_dogs")
SCENE_OF_FOLDER = {"dog_english_springer": "dog"}  # every other folder is called like its scene
NOBODY = "_"  # a folder whose name begins so holds no one person


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
    return {folder / row.file: row.points5 for row in read_json(path, list[FacePoints], "a list of face points")}
