"""Batches of frames -> the network's input, straight from the decoded planes."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from engines.boxes import Letterbox, letterbox
from engines.pictures import PADDING_GREY, resize
from pipeline.picture import Picture, yuv_to_rgb
from pipeline.types import Batch, Prepared


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


def letterbox_into(picture: Picture, box: Letterbox, out: npt.NDArray[np.uint8]) -> None:
    """Write ``picture`` as RGB into ``out`` (H, W, 3), scaled and padded as ``box`` says.

    Planes are scaled before their colours are converted, so that the conversion runs on few pixels. Still
    images (:meth:`Picture.from_rgb`) go through the same scaling: training and evaluation see what a stream sees.

    Raises:
        ValueError: ``out`` is not of the box's target size.
    """
    if out.shape != (box.target[1], box.target[0], 3):
        raise ValueError(f"out must have the shape {(box.target[1], box.target[0], 3)}, got {out.shape}")
    (width, height), (left, top) = box.scaled, box.pad
    inside = out[top : top + height, left : left + width]
    out[:top] = out[top + height :] = PADDING_GREY
    out[top : top + height, :left] = out[top : top + height, left + width :] = PADDING_GREY
    if len(picture.planes) == 1:
        inside[...] = resize(picture.planes[0], box.scaled)
    else:
        planes = [resize(plane, box.scaled) for plane in picture.planes]
        yuv_to_rgb(planes, picture.matrix, picture.full_range, inside)
