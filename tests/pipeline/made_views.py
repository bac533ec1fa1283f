"""Views of faces made by hand, good enough to be enrolled unless something is wrong with them on purpose."""

import numpy as np

from pipeline.gallery.views import View

LANDMARKS = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)


def made_crop() -> np.ndarray:
    """Noise, brighter from the upper left to the lower right."""
    shade = np.add.outer(np.arange(112), np.arange(112))[..., None] // 2
    return (shade + np.random.default_rng(0).integers(40, 140, (112, 112, 3))).astype(np.uint8)


def made_view(
    *embedding: float,
    crop: np.ndarray | None = None,
    landmarks: np.ndarray = LANDMARKS,
    height: float = 100.0,
    quality: float = 0.8,
) -> View:
    vector = np.zeros(128, np.float32)
    vector[: len(embedding)] = embedding
    vector /= max(float(np.linalg.norm(vector)), 1e-9)
    return View(made_crop() if crop is None else crop, landmarks, height, vector, quality)
