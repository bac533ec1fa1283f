"""Pictures -> pixels of the network's input size, straight from the decoded planes."""

import numpy as np
import numpy.typing as npt

from engines.boxes import Letterbox
from engines.pictures import PADDING_GREY, resize
from pipeline.frames.picture import Picture, yuv_to_rgb


def letterbox_into(picture: Picture, box: Letterbox, out: npt.NDArray[np.uint8]) -> None:
    """Write ``picture``, or the crop of it that ``box`` says, as RGB into ``out`` (H, W, 3), scaled and padded.

    Planes are scaled before their colours are converted, so that the conversion runs on few pixels. Still
    images (:meth:`Picture.from_rgb`) go through the same scaling: training and evaluation see what a stream sees.

    Raises:
        ValueError: ``out`` is not of the box's target size, or the crop does not lie in the picture.
    """
    if out.shape != (box.target[1], box.target[0], 3):
        raise ValueError(f"out must have the shape {(box.target[1], box.target[0], 3)}, got {out.shape}")
    picture = picture.part(box)
    (width, height), (left, top) = box.scaled, box.pad
    inside = out[top : top + height, left : left + width]
    out[:top] = out[top + height :] = PADDING_GREY
    out[top : top + height, :left] = out[top : top + height, left + width :] = PADDING_GREY
    if len(picture.planes) == 1:
        inside[...] = resize(picture.planes[0], box.scaled)
    else:
        planes = [resize(plane, box.scaled) for plane in picture.planes]
        yuv_to_rgb(planes, picture.matrix, picture.full_range, inside)
