"""Fixtures for the whole suite: small data that the tests make themselves."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import settings

from engines.arrays import Pixels
from pipeline.frames.picture import Matrix, Picture

# Property tests say what holds, not how fast: on a busy machine one slow example is no failure.
# Other examples are drawn each time, so few are enough for each; pytest --hypothesis-profile=thorough draws many.
settings.register_profile("trunkline", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile("trunkline")


KEY_FRAME_EVERY = 12  # so that whoever joins a stream sees something soon
LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
# No B-frames, one slice a picture: the same clip on every machine, and one that any RTSP server can cut in packets.
ENCODING = {"preset": "ultrafast", "tune": "zerolatency", "crf": "14", "x264-params": "sliced-threads=0"}
COLOUR_SPACES = {"bt601": 5, "bt709": 1, "bt2020": 9}  # ITU-T H.273


def moving_square(index: int, size: tuple[int, int]) -> Pixels:
    """A bright square that moves by 4 pixels a frame over a dark gradient; RGB (H, W, 3)."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = np.linspace(20, 120, width, dtype=np.uint8)
    side = height // 4
    left = (index * 4) % max(width - side, 1)
    pixels[side : 2 * side, left : left + side] = (230, 200, 60)
    return pixels


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """``make_clip(path, frames=25, size=(320, 240), fps=25, draw=None, matrix="bt601", full_range=False)``.

    Renders an H.264 clip (the container by the path's suffix) and returns the path. ``size`` is (width, height);
    ``draw(index)`` gives each frame's RGB (H, W, 3).
    """

    def make(
        path: Path,
        frames: int = 25,
        size: tuple[int, int] = (320, 240),
        fps: int = 25,
        draw: Callable[[int], Pixels] | None = None,
        matrix: Matrix = "bt601",
        full_range: bool = False,
    ) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options=ENCODING)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.gop_size = KEY_FRAME_EVERY
            context.colorspace = COLOUR_SPACES[matrix]
            context.color_range = 2 if full_range else 1
            for index in range(frames):
                pixels = draw(index) if draw else moving_square(index, size)
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                    format="yuv420p", dst_colorspace=context.colorspace, dst_color_range=context.color_range
                )
                frame.pts, frame.time_base = index, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture(scope="session")
def yuv_picture() -> Callable[..., Picture]:
    """``yuv_picture(rgb, matrix="bt601", full_range=False)``: the 4:2:0 picture of RGB pixels (H, W, 3).

    Written from the formulas of BT.601/709/2020, apart from the code under test.
    """

    def convert(rgb: Pixels, matrix: Matrix = "bt601", full_range: bool = False) -> Picture:
        red, blue = LUMA_WEIGHTS[matrix]
        r, g, b = (rgb[..., channel] / 255.0 for channel in range(3))
        luma = red * r + (1 - red - blue) * g + blue * b
        chroma = ((b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red))
        black, luma_span, chroma_span = (0, 255, 255) if full_range else (16, 219, 224)
        planes = [black + luma_span * luma]
        for plane in chroma:
            even = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
            planes.append(128 + chroma_span * even.reshape(even.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)))
        y, u, v = (np.rint(plane).clip(0, 255).astype(np.uint8) for plane in planes)
        return Picture((y, u, v), rgb.shape[1], rgb.shape[0], full_range=full_range, matrix=matrix)

    return convert
