"""Faces turned upright and cut out for the face entry."""

import cmath
import math

import cv2
import numpy as np

from engines.arrays import Float, Pixels

SIZE = 112  # width and height of an aligned face, pixels

# Where the five landmarks sit in an aligned face: the reference points used with ArcFace (Deng et al., 2019).
TEMPLATE: Float = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)

_POINTS = [complex(x, y) for x, y in TEMPLATE.tolist()]
_TARGET_CENTRE = sum(_POINTS) / len(_POINTS)
_TARGET = [point - _TARGET_CENTRE for point in _POINTS]
_TARGET_SPREAD = sum(abs(point) ** 2 for point in _TARGET)

MARGIN = 2.0  # pixels around the crop that interpolation may touch
MIN_LIKENESS = 0.05  # correlation with the template once turned; a face seen wholly from the side has 0.8


def similarity(landmarks: Float) -> tuple[complex, complex]:
    """The rotation with scale, and the shift, that bring ``landmarks`` closest to :data:`TEMPLATE`.

    Least squares without reflection after Umeyama, "Least-squares estimation of transformation parameters between
    two point patterns", IEEE TPAMI 13(4), 1991; in the plane its solution is one division of complex numbers.

    Args:
        landmarks: (5, 2) xy in pixels, whole numbers at pixel centres.

    Returns:
        Factor and summand that map picture coordinates, as complex numbers x + iy, to aligned ones.

    Raises:
        ValueError: the landmarks are not numbers, lie on one spot, or are unlike a face however they are turned.
    """
    if landmarks.shape != TEMPLATE.shape:
        raise ValueError(f"landmarks must have shape {TEMPLATE.shape}, got {landmarks.shape}")
    # Python's own numbers: of five points, every call of NumPy would cost more than all the arithmetic.
    source = [complex(x, y) for x, y in landmarks.tolist()]
    centre = sum(source) / len(source)
    if not cmath.isfinite(centre):
        raise ValueError("landmarks must be finite numbers")
    source = [point - centre for point in source]
    spread = sum(point.real**2 + point.imag**2 for point in source)
    if spread < 1e-6:
        raise ValueError("landmarks must not all lie on one spot")
    covariance = sum(point.conjugate() * target for point, target in zip(source, _TARGET, strict=True))
    if abs(covariance) < MIN_LIKENESS * math.sqrt(spread * _TARGET_SPREAD):
        raise ValueError("landmarks must be arranged like a face")
    turn = covariance / spread
    return turn, _TARGET_CENTRE - turn * centre


def region(landmarks: Float) -> tuple[float, float, float, float]:
    """What of the picture an aligned face is made from: x0, y0, x1, y1 in pixels, not clipped, with a margin of 2.

    ``align(picture, landmarks)`` and ``align(picture[y0:y1, x0:x1], landmarks - (x0, y0))`` with these numbers rounded
    outwards give the same face. Raises ValueError as :func:`similarity` does.
    """
    return _region(*similarity(landmarks))


def align(pixels: Pixels, landmarks: Float) -> Pixels:
    """Cut out a face, upright and at the size the face entry takes.

    Args:
        pixels: (h, w, 3) RGB.
        landmarks: (5, 2) xy in those pixels, in the order of :data:`TEMPLATE`.

    Returns:
        (112, 112, 3) RGB; where the face reaches over the edge of the picture, the edge is repeated.

    Raises:
        ValueError: the landmarks fit no face (see :func:`similarity`), or the face is wholly outside the picture.
    """
    turn, shift = similarity(landmarks)
    height, width = pixels.shape[:2]
    left, top, right, bottom = _region(turn, shift)
    x0, x1 = max(0, math.floor(left)), min(width, math.ceil(right))
    y0, y1 = max(0, math.floor(top)), min(height, math.ceil(bottom))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"the face must overlap the picture of {width}x{height} pixels")
    crop, ratio = _shrink(pixels[y0:y1, x0:x1], max(1, int(1.0 / abs(turn))))
    # A pixel of the shrunken crop is centred on (ratio - 1) / 2 of the pixels that it averages.
    shift += turn * complex(x0 + (ratio[0] - 1) / 2, y0 + (ratio[1] - 1) / 2)
    matrix = np.array(
        [
            [turn.real * ratio[0], -turn.imag * ratio[1], shift.real],
            [turn.imag * ratio[0], turn.real * ratio[1], shift.imag],
        ]
    )
    face = cv2.warpAffine(crop, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(face, np.uint8)


def _shrink(pixels: Pixels, factor: int) -> tuple[Pixels, tuple[float, float]]:
    """Average blocks of about ``factor`` pixels, so that the warp after it does not alias; and the exact ratios."""
    if factor == 1:
        return pixels, (1.0, 1.0)
    height, width = pixels.shape[:2]
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), (width / size[0], height / size[1])


def _region(turn: complex, shift: complex) -> tuple[float, float, float, float]:
    margin = MARGIN * max(1.0, 1.0 / abs(turn))  # large faces are shrunk first: the margin is in shrunken pixels
    corners = [(end - shift) / turn for end in (0, SIZE, SIZE * 1j, SIZE + SIZE * 1j)]
    xs, ys = [corner.real for corner in corners], [corner.imag for corner in corners]
    return min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin
