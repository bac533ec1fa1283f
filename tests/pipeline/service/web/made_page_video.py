"""The made video of the page's tests: pictures that bear their number, as H.264 in fragmented MP4."""

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import av
import cv2
import numpy as np

from engines.arrays import Pixels
from tools.demo_scene import BACKDROPS, PHOTOGRAPHS

SIZE = (640, 360)
FPS = 25
LOOP = 250  # frames, then it begins anew
KEY_EVERY = 25
WHOLE = (slice(None), slice(None))
# Of each stream: the backdrop, what moves before it, which part of that photograph, and its width and height.
SUBJECTS = {
    "door": (0, "astronaut", (slice(0, 470), slice(90, 346)), (120, 220)),
    "yard": (2, "cat", WHOLE, (180, 120)),
    "hall": (1, "cameraman", (slice(60, 500), slice(130, 370)), (120, 220)),
    "gate": (1, "cameraman", (slice(60, 500), slice(130, 370)), (120, 220)),
}
CODE_BITS = 12
CODE_CELL = 12  # pixels a side: so large that no encoder loses it


def moving_box(index: int, stream: str = "door") -> tuple[float, float, float, float]:
    """Where the person or the cat is in a frame: to the right and back, in a loop of frames."""
    wide, high = SUBJECTS[stream][3]
    share = abs((index % LOOP) / LOOP * 2 - 1)
    left = round(30 + (1 - share) * (SIZE[0] - wide - 60))
    return left, 340.0 - high, left + wide, 340.0


@cache
def _photograph(name: str) -> Pixels:
    pixels = cv2.imread(str(PHOTOGRAPHS[name].path))
    assert pixels is not None
    return pixels  # type: ignore[return-value]


@cache
def _backdrop(row: int) -> Pixels:
    pixels = cv2.imread(str(BACKDROPS[row].path))
    assert pixels is not None
    return (cv2.resize(pixels, SIZE) * 0.75).astype(np.uint8)


def draw(index: int, stream: str, coded: bool = True) -> Pixels:
    """A frame, BGR (H, W, 3); ``coded``: its number stands in the upper left corner, as white and black cells."""
    row, subject, part, size = SUBJECTS[stream]
    picture = _backdrop(row).copy()
    x0, y0, x1, y1 = (round(value) for value in moving_box(index, stream))
    picture[y0:y1, x0:x1] = cv2.resize(_photograph(subject)[part], size)
    for bit in range(CODE_BITS if coded else 0):
        left = 4 + bit * CODE_CELL
        picture[4 : 4 + CODE_CELL, left : left + CODE_CELL] = 255 * (index >> bit & 1)
    return picture


@dataclass
class Video:
    """One loop of H.264 as fragments of one picture each."""

    mime: str
    init: bytes
    fragments: list[bytes]
    ticks: int  # of a frame
    whole: bytes


@cache
def encode(stream: str, first: int = 0, frames: int = LOOP, coded: bool = True) -> Video:
    """Return a stream's frames as fragmented MP4."""
    file = io.BytesIO()
    flags = {"movflags": "empty_moov+default_base_moof+frag_every_frame+omit_tfhd_offset"}
    with av.open(file, "w", format="mp4", options=flags) as container:
        track = container.add_stream(
            "libx264", rate=FPS, options={"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
        )
        track.width, track.height = SIZE
        track.pix_fmt = "yuv420p"
        track.codec_context.gop_size = KEY_EVERY
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(first + index, stream, coded), "bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    whole = file.getvalue()
    boxes = list(_boxes(whole))
    moofs = [row for row, (kind, _) in enumerate(boxes) if kind == b"moof"]
    init = b"".join(data for kind, data in boxes if kind in (b"ftyp", b"moov"))
    at = init.index(b"avcC") + 5
    fragments = [boxes[row][1] + boxes[row + 1][1] for row in moofs]
    ticks = _decode_time(fragments[1]) - _decode_time(fragments[0])
    return Video(f'video/mp4; codecs="avc1.{init[at : at + 3].hex()}"', init, fragments, ticks, whole)


def _boxes(data: bytes) -> Any:
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at : at + size]
        at += size


def _decode_time(fragment: bytes) -> int:
    return int(struct.unpack_from(">Q", fragment, fragment.index(b"tfdt") + 8)[0])


def later(fragment: bytes, ticks: int) -> bytes:
    """Return a fragment that is shown so many ticks later."""
    at = fragment.index(b"tfdt") + 8
    return fragment[:at] + struct.pack(">Q", _decode_time(fragment) + ticks) + fragment[at + 8 :]


def snapshot(event: dict[str, Any]) -> bytes:
    """Return the picture of an event: the person, or the face."""
    index, stream = event["id"] * 7, event["stream"]
    x0, y0, x1, y1 = (round(value) for value in moving_box(index, stream))
    high = y0 + (y1 - y0) // 2 if event["kind"] in ("face", "identity") else y1
    return bytes(cv2.imencode(".jpg", draw(index, stream, False)[y0:high, x0:x1])[1])
