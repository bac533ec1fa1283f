"""Batches of frames -> the network's input, straight from the decoded planes."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.types import Batch, Prepared
from pipeline.inference.views import CropChoices, pictures_of, placed

MANY = 1 << 30  # more than any batch has


def new_array(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Memory of a batch's own."""
    return np.empty(shape, np.uint8)


def preprocess(
    batches: Iterable[Batch],
    size: tuple[int, int],
    array: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] = new_array,
    crops: CropChoices | None = None,
    most: int = MANY,
) -> Iterator[Prepared]:
    """Letterbox every frame to infer of every batch, and crops, into ``size`` = (height, width) of the frame entry.

    Each batch gets an array that ``array`` makes for its shape; by default one of its own, so that whoever is
    downstream may keep it. ``crops`` and ``most``: :func:`pipeline.inference.views.placed`.
    """
    height, width = size
    for batch in batches:
        boxes, views = placed(batch, size, crops, most)
        pixels = array((len(boxes), height, width, 3))
        for picture, box, out in zip(pictures_of(batch, views), boxes, pixels, strict=True):
            letterbox_into(picture, box, out)
        yield Prepared(batch, pixels, boxes, time.monotonic_ns(), views=views)


def place_only(
    batches: Iterable[Batch],
    size: tuple[int, int],
    array: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] = new_array,
    crops: CropChoices | None = None,
    most: int = MANY,
) -> Iterator[Prepared]:
    """Say where every frame to infer lies in the network's input, and its crops; the engine letterboxes them there, on
    its GPU.

    The array of a batch is empty. The rest is as in :func:`preprocess`.
    """
    height, width = size
    for batch in batches:
        boxes, views = placed(batch, size, crops, most)
        yield Prepared(batch, array((0, height, width, 3)), boxes, time.monotonic_ns(), views=views)
