"""Hard cuts: from one frame to the next the picture shows another scene. Why this way: decision 23."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from engines.arrays import Luma
from pipeline.frames.luma import luma_points
from pipeline.frames.types import Frame

Small = npt.NDArray[np.float32]
Change = Literal["none", "doubtful", "cut"]

WIDTH, HEIGHT = 64, 36  # points that are compared
BLOCK_ROWS, BLOCK_COLUMNS = 3, 4  # blocks down and across, each looked for on its own
REACH: Final = (6, 8)  # points down and across that a block may have moved
ALIKE: Final = 0.8  # correlation of the whole pictures from which nothing more is looked at
CUT: Final = 0.65  # a picture that resembles the one before by less than that is another scene ...
DOUBTFUL: Final = 0.72  # ... and by less than that it may be one
STAYED: Final = 0.9  # correlation from which a block is surely found again: two such, and the scene goes on
SAME_TONES: Final = 0.85  # share of the points whose tones both pictures have: more, and the camera has but turned
TONES: Final = 16
TEXTURE: Final = 4.0  # standard deviation, luma levels, that a block must have to be told from others
# Luma beyond which, in the dark and in the light of a flash, nothing is left of what was there.
BLACK, WHITE = 17.0, 234.0
CLIPPED: Final = 0.2  # share of such points from which a block says nothing
ENOUGH: Final = 4  # blocks that must say something in both pictures
KEPT_S: Final = 2.0  # for so long a picture is compared with later ones while those say nothing


class CutDetector:
    """Tells frame by frame whether one stream's picture shows another scene; pure state, times are stream time.

    Two pictures resemble each other by the best of three correlations, of which none minds brightness or contrast: of
    the whole pictures; of the middle of one, found again anywhere in the other (a camera that pans); and the median
    over twelve blocks, each found again near by (things and cameras that move). After a cut none of them is left,
    hardly a block stays what it was (behind somebody who steps before the camera some do), and the tones are others. A
    picture that is mostly black, white or flat says nothing: the next is compared with the one before it.
    """

    def __init__(self) -> None:
        self._before: Small | None = None
        self._time_s = 0.0

    def look(self, luma: Luma, time_s: float) -> Change:
        """What happened up to the frame of stream time ``time_s`` with these points (rows, columns)."""
        now = cv2.resize(luma, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
        before = self._before
        if before is None:
            change: Change = "none"
        elif correlation(before, now) >= ALIKE:
            change = "none"
        else:
            telling = _telling(before) & _telling(now)
            if telling.sum() < ENOUGH and abs(time_s - self._time_s) < KEPT_S:
                return "none"
            change = _change(before, now, telling)
        self._before, self._time_s = now, time_s
        return change


def _change(before: Small, now: Small, telling: npt.NDArray[np.bool_]) -> Change:
    if telling.sum() < ENOUGH:
        return "none"
    alike = max(found_again(before, now), found_again(now, before))
    if alike >= DOUBTFUL or shared_tones(before, now) >= SAME_TONES:
        return "none"
    blocks = np.sort(blocks_found_again(before, now, telling))
    alike = max(alike, float(np.median(blocks)))
    if alike >= DOUBTFUL or blocks[-2] >= STAYED:
        return "none"
    return "cut" if alike < CUT else "doubtful"


def correlation(one: Small, other: Small) -> float:
    """Of two pictures (H, W), point by point: -1 to 1; 0 where one is flat."""
    a, b = one - one.mean(), other - other.mean()
    power = float(np.vdot(a, a)) * float(np.vdot(b, b))
    return float(np.vdot(a, b)) / power**0.5 if power > 0.0 else 0.0


def found_again(one: Small, other: Small) -> float:
    """The best correlation of the middle of ``other`` (H, W) with any part of ``one``."""
    height, width = other.shape
    middle = other[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return _best(one, middle)


def blocks_found_again(before: Small, now: Small, telling: npt.NDArray[np.bool_]) -> Small:
    """The best correlation of each of the ``telling`` blocks of ``now`` (K,) near the same place ``before``."""
    rows, columns = HEIGHT // BLOCK_ROWS, WIDTH // BLOCK_COLUMNS
    down, across = REACH
    around = cv2.copyMakeBorder(before, down, down, across, across, cv2.BORDER_REPLICATE)
    best = [
        _best(
            np.asarray(around[top : top + rows + 2 * down, left : left + columns + 2 * across], np.float32),
            now[top : top + rows, left : left + columns],
        )
        for top, left in ((int(row) * rows, int(column) * columns) for row, column in np.argwhere(telling))
    ]
    return np.array(best, np.float32)


def shared_tones(one: Small, other: Small) -> float:
    """The overlap of the histograms of two pictures, 0 to 1."""
    counts = [np.histogram(each, TONES, (0, 256))[0] for each in (one, other)]
    return float(np.minimum(*counts).sum()) / one.size


def _best(where: Small, what: Small) -> float:
    return float(cv2.matchTemplate(where, what, cv2.TM_CCOEFF_NORMED).max())


def _telling(small: Small) -> npt.NDArray[np.bool_]:
    """Which blocks (BLOCK_ROWS, BLOCK_COLUMNS) have texture, and are neither black nor white."""
    shape = (BLOCK_ROWS, HEIGHT // BLOCK_ROWS, BLOCK_COLUMNS, WIDTH // BLOCK_COLUMNS)
    blocks = small.reshape(shape)
    clipped = ((blocks < BLACK) | (blocks > WHITE)).mean(axis=(1, 3))
    return np.asarray((blocks.std(axis=(1, 3)) >= TEXTURE) & (clipped < CLIPPED), np.bool_)


def mark_cuts(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames of one stream, each with the ``seq`` of the last cut before it and of the last doubtful one."""
    detector, cut, doubtful = CutDetector(), -1, -1
    for frame in frames:
        change = detector.look(luma_points(frame.picture), frame.time_s)
        if change != "none":
            cut, doubtful = (frame.seq, doubtful) if change == "cut" else (cut, frame.seq)
        yield replace(frame, cut_seq=cut, doubtful_seq=doubtful) if max(cut, doubtful) >= 0 else frame
