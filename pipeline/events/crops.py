"""The best view of each track as a JPEG, cut out while its picture is at hand; pure state."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from engines.arrays import Float
from pipeline.frames.events import Box, TrackCrop
from pipeline.frames.picture import Picture
from pipeline.frames.rounding import rounded

SIDE: Final = 192  # pixels of a crop's longer side at the most: 4 to 15 KiB
QUALITY: Final = 80
CLEARLY: Final = 1.25  # so many times as good as the view that is kept is worth cutting out
ENOUGH: Final = 2.0 * SIDE  # pixels of a view beyond which size adds nothing
AT_ONCE: Final = 4  # crops of one frame; the others have their turn in the next
FACE_MARGIN: Final = 0.4  # of a face's box on each side: the face entry sees more than the box, people want the head
REDUCED: Final = 2.0  # a view is read in steps of pixels that leave so many times those of the crop


@dataclass(frozen=True, slots=True)
class _BestCrop:
    worth: float
    crop: TrackCrop


class BestCrops:
    """The best views of the tracks of one kind in one stream.

    Args:
        margin: what is shown around each box, as a share of its width and height on each side.
    """

    def __init__(self, margin: float = 0.0) -> None:
        self._margin = margin
        self._kept: dict[int, _BestCrop] = {}

    def look(self, picture: Picture, at_ns: int, ids: npt.NDArray[np.int64], boxes: Float, scores: Float) -> None:
        """Keep the views of a frame that are clearly better than those kept: large ones, with high scores.

        Args:
            picture: of the frame.
            at_ns: when it was, Unix time.
            ids: (N,) tracks that are seen in it.
            boxes: (N, 4) xyxy source pixels.
            scores: (N,) in [0, 1].
        """
        if not len(ids):
            return
        sizes = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        worth = scores * np.minimum(sizes, ENOUGH)
        kept = np.array([self._kept[track].worth if track in self._kept else 0.0 for track in ids.tolist()])
        (better,) = (worth > CLEARLY * kept).nonzero()
        urgent = better[np.argsort(kept[better] / worth[better], kind="stable")[:AT_ONCE]]  # those without one first
        for row in urgent.tolist():
            box = self._shown(picture, boxes[row])
            self._kept[int(ids[row])] = _BestCrop(float(worth[row]), TrackCrop(at_ns, box, cut_jpeg(picture, box)))

    def _shown(self, picture: Picture, seen: Float) -> Box:
        """What a crop shows of a box (4,)."""
        wider = np.tile((seen[2:] - seen[:2]) * self._margin, 2) * (-1, -1, 1, 1)
        limits = np.tile((picture.width, picture.height), 2)
        x0, y0, x1, y1 = rounded(np.where(wider, np.clip(seen + wider, 0, limits), seen), 1).tolist()
        return x0, y0, x1, y1

    def of(self, track: int) -> TrackCrop | None:
        """The best view of a track, if there is one."""
        kept = self._kept.get(track)
        return None if kept is None else kept.crop

    def forget(self, track: int) -> None:
        """Drop a track that ended."""
        self._kept.pop(track, None)


def cut_jpeg(picture: Picture, box: Box) -> bytes:
    """What ``box`` (xyxy, source pixels) covers, at most SIDE pixels wide and high, as a JPEG."""
    step = max(1, int(max(box[2] - box[0], box[3] - box[1]) / (REDUCED * SIDE)))
    coarse = Picture(
        tuple(plane[::step, ::step] for plane in picture.planes),
        -(-picture.width // step),
        -(-picture.height // step),
        picture.full_range,
        picture.matrix,
    )
    pixels, _ = coarse.crop((box[0] / step, box[1] / step, box[2] / step, box[3] / step))
    scale = SIDE / max(pixels.shape[:2])
    if scale < 1.0:
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return jpeg.tobytes()
