"""Engines that see the faces that were drawn into a picture, for tests of enrolling without a network."""

from pathlib import Path
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from engines.engine import Engine
from engines.spec import EntryName, EntrySpec, Model, ModelSpec, NetworkSettings

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)  # in a face's box
FRAME = EntrySpec("frame.onnx", "a" * 64, 320, 320, {})
FACE = EntrySpec("face.onnx", "b" * 64, 112, 112, {"embedding": (128,), "quality": ()})
MODEL = Model(
    Path("made"),
    ModelSpec(1, "made", FRAME, FACE, ("person",), ("street",), NetworkSettings()),
)


class MadeEngine:
    """The frame entry finds bright blue rectangles as faces; the face entry embeds the darkness of their left half."""

    backend = precision = device = "made"

    def __init__(self, entry: EntryName) -> None:
        self.spec = MODEL.spec.entry(entry)

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        return self._faces(batch[0]) if self.spec is FRAME else self._embeddings(batch)

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def _faces(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        blue = (pixels[..., 2] > 150) & (pixels[..., 1] < 100)
        _, _, stats, _ = cv2.connectedComponentsWithStats(blue.astype(np.uint8))
        corners = np.array([[x, y, x + w, y + h] for x, y, w, h, area in stats[1:] if area > 20], np.float32)
        corners = corners.reshape(-1, 4)
        landmarks = corners[:, None, :2] + POINTS * (corners[:, None, 2:] - corners[:, None, :2])
        return {
            "object_boxes": np.zeros((1, 0, 4), np.float32),
            "object_scores": np.zeros((1, 0), np.float32),
            "object_labels": np.zeros((1, 0), np.int32),
            "face_boxes": corners[None],
            "face_scores": np.full((1, len(corners)), 0.9, np.float32),
            "face_landmarks": landmarks[None],
            "scene": np.ones((1, 1), np.float32),
        }

    def _embeddings(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        left = batch[:, 40:80, 30:56, 2].mean(axis=(1, 2)) / 255
        embedding = np.zeros((len(batch), 128), np.float32)
        embedding[:, 0], embedding[:, 1] = left, np.sqrt(1 - left**2)
        return {"embedding": embedding, "quality": left.astype(np.float32)}


def open_made(_model: Model, entry: EntryName, _backend: str = "auto") -> Engine:
    """In place of ``engines.engine.open_engine``."""
    return MadeEngine(entry)


def photo(path: Path, *faces: tuple[int, int, int, int], size: tuple[int, int] = (400, 300)) -> Path:
    """A grey picture of ``size`` (width, height) with faces at (x, y, width, height), left half darker than right."""
    pixels = np.full((size[1], size[0], 3), 60, np.uint8)
    for x, y, width, height in faces:
        # OpenCV writes BGR. Green and red tell nothing to the engines above, but make the face sharp and well lit.
        pixels[y : y + height, x : x + width, 1] = np.random.default_rng(0).integers(0, 70, (height, width))
        pixels[y : y + height, x : x + width, 2] = np.linspace(0, 255, height)[:, None]
        pixels[y : y + height, x : x + width // 2, 0] = 200
        pixels[y : y + height, x + width // 2 : x + width, 0] = 250
    assert cv2.imwrite(str(path), pixels)
    return path
