"""How the camera moved between two frames, from corners followed through small pictures.

Corners after Shi and Tomasi ("Good Features to Track", CVPR 1994), followed by pyramidal Lucas-Kanade; shift, turn and
zoom that most of them agree on are the camera's (RANSAC), as in Aharon et al., "BoT-SORT", 2022, section 3.2.
"""

from typing import Final, cast

import cv2
import numpy as np
from cv2.typing import MatLike

from engines.arrays import Double, Luma
from pipeline.frames.picture import Picture

WIDTH: Final = 240  # pixels of the small picture
CORNERS: Final = 150
QUALITY: Final = 0.01  # of a corner, against the best one's
APART: Final = 8.0  # pixels between two corners
ENOUGH: Final = 12  # corners that must be found again
AGREEING: Final = 0.4  # share of them that must move alike
OFF: Final = 1.0  # pixels by which one that agrees may miss


def small_luma(picture: Picture) -> Luma:
    """The picture's luma, WIDTH pixels wide or as wide as it is; of RGB its green, which is near enough."""
    plane = picture.planes[0] if len(picture.planes) > 1 else picture.planes[0][..., 1]
    width = min(WIDTH, picture.width)
    height = max(1, round(picture.height * width / picture.width))
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def camera_motion(before: Luma, after: Luma) -> Double | None:
    """Where the things of one small picture, which do not move themselves, are in the next one.

    Args:
        before: (H, W) of the earlier frame.
        after: (H, W) of the later frame.

    Returns:
        (2, 3) similarity transform of points in small pixels, or None where too little can be followed: in the dark,
        after a cut, or for pictures of different sizes.
    """
    if before.shape != after.shape:
        return None
    # Its types leave out that there may be none.
    corners = cast("MatLike | None", cv2.goodFeaturesToTrack(before, CORNERS, QUALITY, APART))
    if corners is None or len(corners) < ENOUGH:
        return None
    found, followed, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners))
    kept = followed.ravel() == 1
    if kept.sum() < ENOUGH:
        return None
    motion, agreed = cv2.estimateAffinePartial2D(corners[kept], found[kept], ransacReprojThreshold=OFF)
    if motion is None or np.mean(agreed) < AGREEING:
        return None
    return np.asarray(motion, np.float64)


def in_source(motion: Double, scale: float) -> Double:
    """The transform (2, 3) for pixels that are ``scale`` times as small as those it was found in, so more of them."""
    return np.concatenate([motion[:, :2], motion[:, 2:] * scale], axis=1)
