"""Non-maximum suppression."""

import cv2
import numpy as np
import numpy.typing as npt

from engines.boxes import Float, filled


def nms(
    boxes: Float, scores: Float, iou: float, labels: npt.NDArray[np.integer] | None = None, top: int = 300
) -> npt.NDArray[np.int64]:
    """Greedy non-maximum suppression over the ``top`` best boxes.

    Args:
        boxes: (N, 4) xyxy. Boxes without area are never kept.
        scores: (N,) any finite numbers; of equal ones the earlier row wins.
        iou: a box goes when its overlap with a better kept one is larger than this, in [0, 1].
        labels: (N,) classes; boxes of different classes never suppress each other. None: one class.
        top: how many of the best boxes are looked at.

    Returns:
        Rows that are kept, best first.
    """
    rows = np.flatnonzero(filled(boxes))
    rows = rows[np.argsort(-scores[rows], kind="stable")][:top]
    if rows.size == 0:
        return rows
    corners = boxes[rows].astype(np.float64)
    if labels is not None:
        span = corners.max() - corners.min() + 1.0
        corners += (labels[rows] * span)[:, None]
    corners[:, 2:] -= corners[:, :2]  # NMSBoxes takes x, y, width, height
    # Ranks stand in for the scores: NMSBoxes drops scores of 0 and orders equal ones as it likes.
    ranks = np.arange(rows.size, 0, -1, dtype=np.float32)
    kept = cv2.dnn.NMSBoxes(corners.tolist(), ranks.tolist(), 0.0, iou)
    return rows[np.asarray(kept, np.int64)]
