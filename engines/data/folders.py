"""Pictures by class: a folder for each scene or each person, and files with points of single crops."""

import zipfile
from pathlib import Path

import msgspec
import numpy as np

from engines.arrays import Float
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


def read_embeddings(path: Path, folder: Path) -> dict[Path, Float]:
    """Embeddings (D,) of pictures by a teacher, by picture path.

    The file is NumPy's ``npz`` with ``paths`` (N,), relative to ``folder``, and ``embeddings`` (N, D).

    Raises:
        DataError: the file is missing or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            names, rows = content["paths"], content["embeddings"].astype(np.float32)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is not an npz file with paths and embeddings: {error}") from error
    if rows.ndim != 2 or names.shape != rows.shape[:1]:
        raise DataError(f"{path}: paths must be (N,) and embeddings (N, D), got {names.shape} and {rows.shape}")
    return {folder / str(name): row for name, row in zip(names, rows, strict=True)}


def read_points(path: Path, folder: Path) -> dict[Path, list[tuple[float, float]]]:
    """Five points of each crop that has them, by picture path.

    Raises:
        DataError: the file is missing or not a list of points.
    """
    return {folder / row.file: row.points5 for row in read_json(path, list[FacePoints], "a list of face points")}
