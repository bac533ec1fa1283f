"""Faces to cut out of pictures, and what each is labelled with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.alignment import SIZE, align
from engines.arrays import Pixels
from engines.errors import DataError
from engines.pictures import read_rgb, resize

Box = tuple[float, float, float, float]  # xyxy, pixels


@dataclass(frozen=True, slots=True)
class LabelledCrop:
    """One face of a picture: where its five points are, else its box, else the whole picture."""

    file: Path
    label: str
    points: list[tuple[float, float]] | None = None
    box: Box | None = None


def read_crop(crop: LabelledCrop) -> Pixels:
    """Return the face as the face entry sees it, (112, 112, 3) RGB: aligned by its points, else resized.

    Raises:
        DataError: the picture cannot be read, its points are no face's, or its box lies outside.
    """
    pixels = read_rgb(crop.file)
    if crop.points is not None:
        try:
            return align(pixels, np.array(crop.points, np.float32))
        except ValueError as error:
            raise DataError(f"picture {crop.file}: {error}") from error
    if crop.box is not None:
        height, width = pixels.shape[:2]
        x0, y0, x1, y1 = (round(value) for value in crop.box)
        pixels = pixels[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
        if not pixels.size:
            raise DataError(f"picture {crop.file}: the face at {list(crop.box)} lies outside")
    return resize(pixels, (SIZE, SIZE))
