"""Batches of frames -> the network's input, straight from the decoded planes."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from engines.boxes import letterbox
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.types import Batch, Prepared


def new_array(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Memory of a batch's own."""
    return np.empty(shape, np.uint8)


def preprocess(
    batches: Iterable[Batch],
    size: tuple[int, int],
    array: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] = new_array,
) -> Iterator[Prepared]:
    """Letterbox every frame to infer of every batch into ``size`` = (height, width) of the frame entry.

    Each batch gets an array that ``array`` makes for its shape; by default one of its own, so that whoever is
    downstream may keep it.
    """
    height, width = size
    for batch in batches:
        pictures = [frame.picture for frame in batch.to_infer]
        boxes = tuple(letterbox((picture.width, picture.height), (width, height)) for picture in pictures)
        pixels = array((len(pictures), height, width, 3))
        for picture, box, out in zip(pictures, boxes, pixels, strict=True):
            letterbox_into(picture, box, out)
        yield Prepared(batch, pixels, boxes, time.monotonic_ns())


def place_only(
    batches: Iterable[Batch],
    size: tuple[int, int],
    array: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] = new_array,
) -> Iterator[Prepared]:
    """Say where every frame to infer lies in the network's input; the engine letterboxes them there, on its GPU.

    The array of a batch is empty.
    """
    height, width = size
    for batch in batches:
        pictures = [frame.picture for frame in batch.to_infer]
        boxes = tuple(letterbox((picture.width, picture.height), (width, height)) for picture in pictures)
        yield Prepared(batch, array((0, height, width, 3)), boxes, time.monotonic_ns())
