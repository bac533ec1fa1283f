"""Small clips that are odd in one way each."""

import random
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from engines.arrays import Pixels

KEPT = 5  # bytes of a broken packet: it is still a packet of its kind
ONE = 1 << 16  # 1.0 in the fixed-point numbers of a display matrix


def drawn(index: int, size: tuple[int, int]) -> Pixels:
    """Four quarters of different colours, the first of which grows brighter from frame to frame; RGB (H, W, 3)."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (230, 30 + 5 * index % 200, 30)
    pixels[: height // 2, width // 2 :] = (30, 200, 30)
    pixels[height // 2 :, : width // 2] = (40, 40, 220)
    return pixels


def write_clip(
    path: Path,
    frames: int = 25,
    size: tuple[int, int] = (64, 48),
    rate: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    stamps: Callable[[int], int] | None = None,
    broken: Collection[int] = (),
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    draw: Callable[[int, tuple[int, int]], Pixels] = drawn,
) -> Path:
    """Write a clip, its container by the path's suffix, and return the path.

    Args:
        stamps: the time stamp of each packet, in frames, in place of its index; the codec must not reorder then.
        broken: packets, in the order in which they are decoded, whose bytes are noise.
        matrix: of the display, nine numbers.
        aspect: of the pixels.
    """
    written = 0
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        pictures = [av.VideoFrame.from_ndarray(draw(index, size), "rgb24") for index in range(frames)]
        for index, frame in enumerate(pictures):
            frame.pts, frame.time_base = index, Fraction(1, rate)
        for frame in (*pictures, None):
            for packet in stream.encode(frame.reformat(format="yuv420p") if frame is not None else None):
                if stamps is not None:
                    assert packet.time_base is not None
                    packet.pts = packet.dts = round(stamps(written) / rate / packet.time_base)
                if written in broken:
                    packet = replaced(packet, bytes(packet)[:KEPT] + random.Random(written).randbytes(packet.size))
                written += 1
                container.mux(packet)
    return path


def replaced(packet: "av.Packet[av.VideoStream]", data: bytes) -> "av.Packet[av.VideoStream]":
    """A packet with other bytes."""
    other: av.Packet[av.VideoStream] = av.Packet(data)
    other.pts, other.dts, other.time_base, other.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    other.duration, other.is_keyframe = packet.duration, packet.is_keyframe
    return other
