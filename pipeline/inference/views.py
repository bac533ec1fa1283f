"""Where the pictures of a batch lie in the network's input: each whole, and the crops that are chosen of it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from engines.arrays import Float
from engines.boxes import Letterbox, letterbox
from pipeline.frames.picture import Picture
from pipeline.frames.types import Batch, CropsSeen, Frame
from pipeline.inference.crops import CropBox, CropChooser
from pipeline.inference.motion import MotionFinder

FORGET_NS: Final = 600_000_000_000  # after which what is known of a stream goes, when another one comes


@dataclass(slots=True)
class _StreamView:
    """What is known of one stream."""

    chooser: CropChooser
    motion: MotionFinder = field(default_factory=MotionFinder)
    clock_ns: int = 0  # of its last frame


class CropChoices:
    """The crops of all streams. One thread chooses, any other may say what was seen."""

    def __init__(self) -> None:
        self._streams: dict[str, _StreamView] = {}
        self._seen = deque[CropsSeen]()

    def saw(self, seen: CropsSeen) -> None:
        """Take note of what was seen in an earlier frame."""
        self._seen.append(seen)

    def choose(self, frame: Frame, network: tuple[int, int], count: int) -> list[CropBox]:
        """The crops of a frame, ``count`` at the most, for a network of this width and height."""
        while self._seen:
            seen = self._seen.popleft()
            if (known := self._streams.get(seen.stream)) is not None:
                known.chooser.saw(seen.crops, seen.boxes)
        picture, stream = frame.picture, self._streams.get(frame.stream)
        if stream is None or stream.chooser.picture != (picture.width, picture.height):
            since_ns = frame.clock_ns - FORGET_NS
            self._streams = {name: each for name, each in self._streams.items() if each.clock_ns >= since_ns}
            stream = _StreamView(CropChooser((picture.width, picture.height), network))
            self._streams[frame.stream] = stream
        stream.clock_ns = frame.clock_ns
        moved: Float = np.zeros((0, 4), np.float32)
        if stream.chooser.worth:
            moved = stream.motion.look(picture, frame.time_s)
        return stream.chooser.choose(moved, count)


def whole(frames: tuple[Frame, ...], size: tuple[int, int]) -> tuple[Letterbox, ...]:
    """How whole pictures lie in an input of ``size`` = (height, width)."""
    return tuple(letterbox((frame.picture.width, frame.picture.height), size[::-1]) for frame in frames)


def placed(
    batch: Batch, size: tuple[int, int], crops: CropChoices | None, most: int
) -> tuple[tuple[Letterbox, ...], tuple[int, ...]]:
    """How all that the network is to see of a batch lies in its input.

    Args:
        batch: of which a frame says how many crops it should have.
        size: height and width of the input.
        crops: chooses them; None: there are none.
        most: pictures and crops, together; crops beyond are left out.

    Returns:
        The letterboxes, each frame's whole picture before its crops; and how many each frame has, or () where all are
        whole pictures.
    """
    frames = batch.to_infer
    boxes = whole(frames, size)
    if crops is None or not any(frame.crops for frame in frames):
        return boxes, ()
    views, counts, left = list[Letterbox](), list[int](), most - len(frames)
    for frame, box in zip(frames, boxes, strict=True):
        chosen = crops.choose(frame, size[::-1], min(frame.crops, max(left, 0))) if frame.crops else []
        left -= len(chosen)
        views += [box, *(letterbox(crop[2:], size[::-1], crop[:2]) for crop in chosen)]
        counts.append(1 + len(chosen))
    return tuple(views), tuple(counts)


def pictures_of(batch: Batch, views: tuple[int, ...]) -> Iterator[Picture]:
    """The picture that each row of the network's input shows, or a crop of it."""
    frames = batch.to_infer
    if not views:
        return (frame.picture for frame in frames)
    return (frame.picture for frame, count in zip(frames, views, strict=True) for _ in range(count))
