"""Views of a face as they are enrolled: whether one is good enough, and the best few of a track."""

from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from engines.alignment import SIZE
from engines.arrays import Crop, Float
from engines.errors import DataError, GalleryError
from engines.pictures import size_of

BEST: Final = 5  # views of a track that are remembered
SAME: Final = 0.5  # cosine to the latest view below which one is taken for somebody else's: a track may change faces
JPEG_QUALITY: Final = 95  # of photos that are kept; what it costs an embedding is in docs/gallery.md

# What a view must have to be enrolled, all chosen on faces of the training data, see docs/gallery.md.
MIN_HEIGHT_PX: Final = 40
MAX_TURNED: Final = 0.5
INNER: Final = (slice(24, 108), slice(20, 92))  # of an aligned face: what is skin, eyes and mouth whoever it is
MIN_BRIGHTNESS: Final = 35
MAX_BRIGHTNESS: Final = 220
MIN_CONTRAST: Final = 14
MIN_SHARPNESS: Final = 8


@dataclass(frozen=True, slots=True)
class View:
    """A face that was embedded."""

    crop: Crop  # (112, 112, 3) RGB, aligned
    landmarks: Float  # (5, 2) xy in source pixels
    height: float  # of the face's box in source pixels
    embedding: Float  # (D,) unit
    quality: float  # in [0, 1]

    def flaw(self) -> str | None:
        """Return what is wrong with it, as the rest of a sentence about a face; None when it is good enough."""
        return flaw(self.crop, self.landmarks, self.height)


def flaw(crop: Crop, landmarks: Float, height: float) -> str | None:
    """Return what is wrong with a face that is to be enrolled, as the rest of a sentence; None for nothing.

    Args:
        crop: (112, 112, 3) RGB, aligned.
        landmarks: (5, 2) xy in source pixels.
        height: of its box in source pixels.
    """
    if height < MIN_HEIGHT_PX:
        return f"is {height:.0f} pixels high, but must be at least {MIN_HEIGHT_PX}"
    if (aside := turned(landmarks)) > MAX_TURNED:
        return f"is turned away: its nose is {aside:.2f} of the eyes' distance aside, but must be within {MAX_TURNED}"
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[INNER].astype(np.float32)
    brightness, contrast = float(grey.mean()), float(grey.std())
    if not MIN_BRIGHTNESS <= brightness <= MAX_BRIGHTNESS or contrast < MIN_CONTRAST:
        return (
            f"is badly lit: its brightness is {brightness:.0f} and its contrast {contrast:.0f}, but must be "
            f"{MIN_BRIGHTNESS} to {MAX_BRIGHTNESS} and at least {MIN_CONTRAST} of 255"
        )
    if (sharp := sharpness(grey)) < MIN_SHARPNESS:
        return f"is blurred: its sharpness is {sharp:.0f}, but must be at least {MIN_SHARPNESS}"
    return None


def turned(landmarks: Float) -> float:
    """Return how far the nose of a face (5, 2) is from midway between the eyes, in parts of their distance."""
    left, right, nose = landmarks[:3].astype(np.float64)
    eyes, aside = right - left, nose - (left + right) / 2
    return float(abs(aside @ eyes) / max(eyes @ eyes, 1e-12))


def sharpness(grey: Float) -> float:
    """Return the smaller variance of second differences along rows and columns: motion blurs one of them only.

    After Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000, who
    take the variance of the Laplacian, the sum of both.
    """
    rows, columns = np.diff(grey, 2, axis=0), np.diff(grey, 2, axis=1)
    return float(min(rows.var(), columns.var()))


@dataclass(slots=True)
class BestViews:
    """The best few views of a face track; pure state."""

    _views: list[tuple[float, View]] = field(default_factory=list)
    _latest: View | None = None

    def add(self, view: View, score: float) -> None:
        """Keep one more view, if its ``score`` is among the highest."""
        self._latest = view
        self._views = sorted([*self._views, (score, view)], key=lambda scored: -scored[0])[:BEST]

    def of_one_face(self) -> list[View]:
        """Return the best views, best first, that show the same face as the latest one."""
        if self._latest is None:
            return []
        latest = self._latest.embedding
        return [view for _, view in self._views if float(view.embedding @ latest) >= SAME]


def encode_photo(crop: Crop) -> bytes:
    """Encode an aligned face (112, 112, 3) RGB as JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def decode_photo(jpeg: bytes) -> Crop:
    """Decode an aligned face (112, 112, 3) RGB.

    Raises:
        GalleryError: it is no JPEG of such a face.
    """
    crop = None
    try:
        if size_of(jpeg, "stored photo") == (SIZE, SIZE):  # before it takes memory
            crop = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (DataError, cv2.error):
        pass
    if crop is None or crop.shape != (SIZE, SIZE, 3):
        raise GalleryError(f"a stored photo is damaged: it is no JPEG of {SIZE}x{SIZE} pixels")
    return np.asarray(crop, np.uint8)
