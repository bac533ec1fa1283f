"""Faces turned upright and cut out for the face entry."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from engines.boxes import Float

SIZE = 112  # width and height of an aligned face, pixels

# Where the five landmarks sit in an aligned face: the reference points used with ArcFace (Deng et al., 2019).
TEMPLATE: Float = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)

MARGIN = 2.0  # pixels around the crop that interpolation may touch
MIN_LIKENESS = 0.05  # correlation with the template once turned; a face seen wholly from the side has 0.8


def similarity(landmarks: Float) -> npt.NDArray[np.float64]:
    """The rotation, scale and shift that bring ``landmarks`` closest to :data:`TEMPLATE`.

    Least squares without reflection after Umeyama, "Least-squares estimation of transformation parameters between
    two point patterns", IEEE TPAMI 13(4), 1991; in the plane its solution is one division of complex numbers.

    Args:
        landmarks: (5, 2) xy in pixels, whole numbers at pixel centres.

    Returns:
        (2, 3) matrix that maps picture coordinates to aligned ones, as ``cv2.warpAffine`` takes it.

    Raises:
        ValueError: the landmarks are not numbers, lie on one spot, or are unlike a face however they are turned.
    """
    if landmarks.shape != TEMPLATE.shape:
        raise ValueError(f"landmarks must have shape {TEMPLATE.shape}, got {landmarks.shape}")
    if not np.isfinite(landmarks).all():
        raise ValueError("landmarks must be finite numbers")
    source, target = _complex(landmarks), _complex(TEMPLATE)
    source_centre, target_centre = source.mean(), target.mean()
    source, target = source - source_centre, target - target_centre
    spread = float(np.vdot(source, source).real)
    if spread < 1e-6:
        raise ValueError("landmarks must not all lie on one spot")
    covariance = complex(np.vdot(source, target))
    if abs(covariance) < MIN_LIKENESS * math.sqrt(spread * float(np.vdot(target, target).real)):
        raise ValueError("landmarks must be arranged like a face")
    turn = covariance / spread
    shift = complex(target_centre - turn * source_centre)
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def region(landmarks: Float) -> tuple[float, float, float, float]:
    """What of the picture an aligned face is made from: x0, y0, x1, y1 in pixels, not clipped, with a margin of 2.

    ``align(picture, landmarks)`` and ``align(picture[y0:y1, x0:x1], landmarks - (x0, y0))`` with these numbers rounded
    outwards give the same face. Raises ValueError as :func:`similarity` does.
    """
    return _region(similarity(landmarks))


def align(pixels: npt.NDArray[np.uint8], landmarks: Float) -> npt.NDArray[np.uint8]:
    """Cut out a face, upright and at the size the face entry takes.

    Args:
        pixels: (h, w, 3) RGB.
        landmarks: (5, 2) xy in those pixels, in the order of :data:`TEMPLATE`.

    Returns:
        (112, 112, 3) RGB; where the face reaches over the edge of the picture, the edge is repeated.

    Raises:
        ValueError: the landmarks fit no face (see :func:`similarity`), or the face is wholly outside the picture.
    """
    matrix = similarity(landmarks)
    height, width = pixels.shape[:2]
    left, top, right, bottom = _region(matrix)
    x0, x1 = max(0, math.floor(left)), min(width, math.ceil(right))
    y0, y1 = max(0, math.floor(top)), min(height, math.ceil(bottom))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"the face must overlap the picture of {width}x{height} pixels")
    crop, ratio = _shrink(pixels[y0:y1, x0:x1], max(1, int(1.0 / _scale(matrix))))
    # A pixel of the shrunken crop is centred on (ratio - 1) / 2 of the pixels that it averages.
    to_picture = np.array([[ratio[0], 0, x0 + (ratio[0] - 1) / 2], [0, ratio[1], y0 + (ratio[1] - 1) / 2], [0, 0, 1]])
    face = cv2.warpAffine(
        crop, matrix @ to_picture, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(face, np.uint8)


def _shrink(pixels: npt.NDArray[np.uint8], factor: int) -> tuple[npt.NDArray[np.uint8], tuple[float, float]]:
    """Average blocks of about ``factor`` pixels, so that the warp after it does not alias; and the exact ratios."""
    if factor == 1:
        return pixels, (1.0, 1.0)
    height, width = pixels.shape[:2]
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), (width / size[0], height / size[1])


def _region(matrix: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    margin = MARGIN * max(1.0, 1.0 / _scale(matrix))  # large faces are shrunk first: the margin is in shrunken pixels
    ends = np.array([[0, 0], [SIZE, 0], [0, SIZE], [SIZE, SIZE]], np.float64)
    corners = np.linalg.solve(matrix[:, :2], (ends - matrix[:, 2]).T)
    x0, y0 = (corners.min(axis=1) - margin).tolist()
    x1, y1 = (corners.max(axis=1) + margin).tolist()
    return x0, y0, x1, y1


def _scale(matrix: npt.NDArray[np.float64]) -> float:
    return math.hypot(matrix[0, 0], matrix[1, 0])


def _complex(points: Float) -> npt.NDArray[np.complex128]:
    wide = points.astype(np.float64)
    return wide[:, 0] + 1j * wide[:, 1]
