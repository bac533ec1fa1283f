"""The pictures that ship with an int8 file, so that every processor can check it for itself."""

import importlib.util
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import msgspec
import numpy as np

from engines.arrays import Pixels
from engines.compiling.simulating import write_simulated
from engines.drift import drift
from engines.engine import open_engine
from engines.errors import DataError
from engines.pictures import read_rgb, resize
from engines.self_check import read_pictures
from engines.spec import CheckPictures, EntryName, Model, QuantisedFile, sha256_of

SIDE: Final = 192  # pixels of a square picture as it is kept; scaled to the entry's size when it is read
FACE_SIDE: Final = 112
QUALITY: Final = 85  # of JPEG: about 10 kB a picture


class Crop(NamedTuple):
    """A square part of a photograph that an installed package brings along, in the public domain or CC0."""

    package: str
    file: str
    left: int
    top: int
    side: int  # pixels


PHOTOGRAPHS: Final[dict[EntryName, tuple[Crop, ...]]] = {
    "frame": (
        Crop("skimage", "data/astronaut.png", 0, 0, 512),
        Crop("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 0, 40, 512),
        Crop("skimage", "data/chelsea.png", 60, 0, 300),
        Crop("skimage", "data/coffee.png", 100, 0, 400),
        Crop("skimage", "data/motorcycle_left.png", 140, 0, 500),
        Crop("skimage", "data/rocket.jpg", 110, 0, 427),
    ),
    "face": (
        Crop("skimage", "data/astronaut.png", 160, 58, 130),
        Crop("skimage", "data/astronaut.png", 172, 70, 108),
        Crop("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 150, 130, 220),
        Crop("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 172, 160, 180),
    ),
}


def made_check(model: Model, entry: EntryName, int8: QuantisedFile, work: Path) -> QuantisedFile:
    """The description of an int8 file in ``work`` with the pictures of its self-check, which are written beside it.

    The drift that belongs to it is that of exact integer arithmetic, simulated in f32.

    Raises:
        DataError: a package that brings the photographs is not installed.
    """
    pictures, file = check_pictures(entry), work / f"{entry}.check.jpg"
    write_sheet(pictures, file)
    check = CheckPictures(file.name, sha256_of(file), len(pictures), {})
    spec = model.spec.entry(entry)
    batch = read_pictures(file, check, spec)
    simulated = work / f"{entry}.simulated.onnx"
    write_simulated(work / int8.file, simulated)
    of_int8 = msgspec.structs.replace(spec, file=simulated.name, sha256=sha256_of(simulated))
    other = Model(work, msgspec.structs.replace(model.spec, **{entry: of_int8}))
    found = []
    for each in (model, other):
        with open_engine(each, entry, "onnxruntime", "f32") as engine:
            found.append(engine.infer(batch))
    check = msgspec.structs.replace(check, drift=drift(entry, model.spec.network.tasks, *found))
    return msgspec.structs.replace(int8, check=check)


def check_pictures(entry: EntryName) -> list[Pixels]:
    """Square RGB pictures (H, H, 3) for the self-check of an entry: whole photographs, or faces.

    Raises:
        DataError: a package that brings the photographs is not installed.
    """
    side = FACE_SIDE if entry == "face" else SIDE
    return [resize(_cut(crop), (side, side)) for crop in PHOTOGRAPHS[entry]]


def write_sheet(pictures: list[Pixels], file: Path) -> None:
    """Write pictures of one size below each other into a JPEG file."""
    sheet = cv2.cvtColor(np.concatenate(pictures), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done  # it is a picture that JPEG can hold
    file.write_bytes(data.tobytes())


def _cut(crop: Crop) -> Pixels:
    found = importlib.util.find_spec(crop.package)
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        if (path := Path(folder) / crop.file).is_file():
            pixels = read_rgb(path)
            return pixels[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    raise DataError(
        f"the self-check's photograph {Path(crop.file).name} comes with scikit-image or matplotlib and was not found: "
        "run pip install -e '.[train]'"
    )
