"""Pictures of made scenes, for tests of cuts: patches and shapes of many tones, as different as two places are."""

import cv2
import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.float32]

WIDTH, HEIGHT = 320, 180
MARGIN = 60  # pixels around the picture that a camera can turn to


def wide(seed: int) -> Luma:
    """A scene with its surroundings (HEIGHT + 2 MARGIN, WIDTH + 2 MARGIN), luma 40 to 210."""
    made = np.random.default_rng(seed)
    height, width = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    pixels = cv2.resize(made.uniform(60, 180, (4, 6)).astype(np.float32), (width, height))
    for _ in range(60):
        left, top = (int(made.uniform(-40, side)) for side in (width, height))
        across, down = (int(made.uniform(15, 110)) for _ in range(2))
        tone = float(made.uniform(40, 210))
        if made.random() < 0.5:
            cv2.rectangle(pixels, (left, top), (left + across, top + down), tone, -1)
        else:
            cv2.ellipse(pixels, (left, top), (across // 2, down // 2), made.uniform(0, 180), 0, 360, tone, -1)
    return np.asarray(np.clip(pixels + made.normal(0.0, 4.0, pixels.shape), 40, 210), np.float32)


def seen(scene: Luma, left: int = 0, top: int = 0, zoom: float = 1.0) -> Luma:
    """What a camera sees of a :func:`wide` scene (HEIGHT, WIDTH), turned by pixels and zoomed into the middle."""
    transform = np.array([[zoom, 0, 0], [0, zoom, 0]], np.float32)
    transform[:, 2] = [WIDTH / 2 - zoom * (MARGIN + WIDTH / 2 + left), HEIGHT / 2 - zoom * (MARGIN + HEIGHT / 2 + top)]
    return np.asarray(cv2.warpAffine(scene, transform, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE), np.float32)


def rgb(luma: Luma) -> npt.NDArray[np.uint8]:
    """The grey picture (HEIGHT, WIDTH, 3)."""
    return np.repeat(np.clip(np.rint(luma), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
