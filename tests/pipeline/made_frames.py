"""Frames that stand for themselves, for tests of what carries them."""

import numpy as np

from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame

DOT = Picture.from_rgb(np.zeros((1, 1, 3), np.uint8))


def make_frame(stream: str, seq: int, picture: Picture = DOT) -> Frame:
    """Frame ``seq`` of a stream of 25 frames/s."""
    return Frame(stream, seq, 0, 0, seq / 25, picture)


def names(frames: tuple[Frame, ...] | list[Frame]) -> list[str]:
    """Short names: ``a0`` is the first frame of stream ``a``."""
    return [f"{frame.stream}{frame.seq}" for frame in frames]
