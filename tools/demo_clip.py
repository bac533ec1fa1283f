"""Draw the demo's clip: photographs that move, zoom, turn, dim and blur over a changing background."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import av
import cv2
import msgspec
import numpy as np

from engines.arrays import Pixels
from engines.pictures import read_rgb
from tools.demo_scene import (
    BACKDROPS,
    HEIGHT,
    PHOTOGRAPHS,
    RATE,
    SECONDS,
    WIDTH,
    Photograph,
    Pose,
    poses_at,
    seen_at,
)

SEED: Final = 20
FRAMES: Final = SECONDS * RATE
GRAIN: Final = 2.5  # standard deviation of the sensor noise, grey levels
GRAINS: Final = 8  # noise pictures, used in turn
ROAM: Final = (320, 180)  # how much larger a backdrop is than the picture, pixels: the view wanders over it
BACKDROP_BLUR: Final = 14.0  # standard deviation, pixels


class Renderer:
    """Draws the frames of the clip; the same frame every time.

    Raises:
        DataError: a photograph is missing or cannot be read.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(SEED)
        self._photos = {name: read_rgb(photo.path) for name, photo in PHOTOGRAPHS.items()}
        self._backdrops = tuple(_backdrop(photo, random) for photo in BACKDROPS)
        self._grains = random.normal(0, GRAIN, (GRAINS, HEIGHT, WIDTH, 1)).astype(np.int16).repeat(3, axis=3)

    def frame(self, number: int) -> Pixels:
        """RGB pixels (720, 1280, 3) of the frame with this number, counted from 0."""
        time_s = number / RATE
        picture = self._behind(time_s)
        for name, pose in poses_at(time_s):
            _lay(picture, self._photos[name], pose, PHOTOGRAPHS[name])
        return np.asarray(cv2.add(picture, self._grains[number % GRAINS], dtype=cv2.CV_8U), np.uint8)

    def _behind(self, time_s: float) -> Pixels:
        """The background: one backdrop fades into the next while the view wanders slowly over them."""
        place = time_s / SECONDS * len(self._backdrops)
        fade = float(np.clip((place % 1.0 - 0.7) / 0.3, 0.0, 1.0))
        # Whole pixels are fine enough: nothing on a backdrop is sharp.
        x, y = (0.5 * np.array(ROAM) * (1 + np.sin([0.5 * time_s, 0.37 * time_s + 1]))).astype(int)
        near, coming = (
            self._backdrops[(int(place) + step) % len(self._backdrops)][y : y + HEIGHT, x : x + WIDTH]
            for step in (0, 1)
        )
        return near.copy() if fade == 0 else np.asarray(cv2.addWeighted(near, 1 - fade, coming, fade, 0), np.uint8)


def render(clip: Path, truth: Path, advanced: Callable[[], None] = lambda: None) -> None:
    """Write the clip (H.264 in MP4) and, as JSON, what is where in each of its frames.

    Args:
        clip: the video to write.
        truth: the JSON file to write: size, frames per second and, for every frame, its list of ``Seen``.
        advanced: called after every frame, for a progress bar.

    Raises:
        DataError: a photograph is missing or cannot be read.
    """
    renderer = Renderer()
    with av.open(str(clip), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "20"}
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(renderer.frame(number), format="rgb24")))
            advanced()
        container.mux(stream.encode(None))
    frames = [seen_at(number / RATE) for number in range(FRAMES)]
    truth.write_bytes(msgspec.json.encode({"size": (WIDTH, HEIGHT), "frames_per_s": RATE, "frames": frames}))


def _backdrop(photo: Photograph, random: np.random.Generator) -> Pixels:
    """A photograph out of focus under a cloudy texture."""
    size = WIDTH + ROAM[0], HEIGHT + ROAM[1]
    blurred = cv2.GaussianBlur(cv2.resize(read_rgb(photo.path), size), (0, 0), BACKDROP_BLUR)
    octaves = [
        cv2.resize(random.normal(0, 18 / 2**k, (4 << k, 7 << k)), size, interpolation=cv2.INTER_CUBIC)
        for k in (0, 1, 2, 3)
    ]
    clouds = np.sum(octaves, axis=0)[..., None]
    return np.asarray(np.clip(0.75 * blurred + 40 + clouds, 0, 255), np.uint8)


def _lay(picture: Pixels, pixels: Pixels, pose: Pose, photo: Photograph) -> None:
    """Draw a photograph into the picture, with soft edges."""
    corners = pose.corners(photo)
    reach = 3 * pose.blur + 2
    x0, y0 = np.clip(np.floor(corners.min(axis=0) - reach), 0, (WIDTH, HEIGHT)).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0) + reach), 0, (WIDTH, HEIGHT)).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    shift = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]], dtype=np.float64)
    matrix, size = shift @ pose.transform(photo), (int(x1 - x0), int(y1 - y0))
    lit = cv2.convertScaleAbs(pixels, alpha=pose.light)
    laid = cv2.warpPerspective(lit, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpPerspective(np.ones(pixels.shape[:2], np.float32), matrix, size)
    if pose.blur > 0.3:
        laid, weight = (cv2.GaussianBlur(image, (0, 0), pose.blur) for image in (laid, weight))
    under = picture[y0:y1, x0:x1]
    under[:] = cv2.blendLinear(laid, under, weight, 1 - weight)
