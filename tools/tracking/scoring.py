"""Tracks against true ones: HOTA, IDF1, MOTA and identity switches, as TrackEval counts them.

HOTA: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021. IDF1: Ristani et
al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016. MOTA: Bernardin and
Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008.
"""

from typing import Any

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment
from trackeval.metrics import CLEAR, HOTA, Identity

from engines.arrays import Ints
from engines.boxes import iou_matrix
from tools.tracking.sequences import Rows, Sequence

SAME_THING = 0.5  # IoU from which a track lies on a true box, as in MOTChallenge


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How good the tracks of one class in one sequence are. Percentages but for the counts."""

    hota: float
    det_a: float
    ass_a: float
    loc_a: float
    idf1: float
    mota: float
    switches: int
    fragments: int
    false_positives: int
    misses: int
    true_boxes: int
    tracks: int  # ids shown
    true_tracks: int


def score(sequence: Sequence, tracks: Rows) -> Scores:
    """The scores of ``tracks`` on the true tracks of ``sequence``, which are of one class.

    What lies on a true box that does not count (flag 0) is neither right nor wrong: it is taken away before counting.
    """
    data = _counted(sequence, tracks)
    hota = HOTA().eval_sequence(data)
    clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    return Scores(
        hota=_percent(hota["HOTA"].mean()),
        det_a=_percent(hota["DetA"].mean()),
        ass_a=_percent(hota["AssA"].mean()),
        loc_a=_percent(hota["LocA"].mean()),
        idf1=_percent(identity["IDF1"]),
        mota=_percent(clear["MOTA"]),
        switches=int(clear["IDSW"]),
        fragments=int(clear["Frag"]),
        false_positives=int(clear["CLR_FP"]),
        misses=int(clear["CLR_FN"]),
        true_boxes=data["num_gt_dets"],
        tracks=data["num_tracker_ids"],
        true_tracks=data["num_gt_ids"],
    )


def _percent(share: float) -> float:
    return round(100 * float(share), 3)


def _counted(sequence: Sequence, tracks: Rows) -> dict[str, Any]:
    """What TrackEval counts on: of each frame the ids, from 0 without gaps, and the IoU of each pair."""
    truth_ids, track_ids, overlaps = [], [], []
    for true, shown in zip(sequence.truth.by_frame(sequence.length), tracks.by_frame(sequence.length), strict=True):
        counts = true.scores > 0
        ious = iou_matrix(true.boxes, shown.boxes).astype(np.float64)
        kept = ~_on_ignored(ious, counts)
        truth_ids.append(true.ids[counts])
        track_ids.append(shown.ids[kept])
        overlaps.append(ious[counts][:, kept])
    truth_ids, true_tracks = _renumbered(truth_ids)
    track_ids, shown_tracks = _renumbered(track_ids)
    return {
        "gt_ids": truth_ids,
        "tracker_ids": track_ids,
        "similarity_scores": overlaps,
        "num_timesteps": sequence.length,
        "num_gt_ids": true_tracks,
        "num_tracker_ids": shown_tracks,
        "num_gt_dets": sum(map(len, truth_ids)),
        "num_tracker_dets": sum(map(len, track_ids)),
    }


def _on_ignored(ious: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which tracks (T,) lie on a true box that does not count, when each true box takes one at most."""
    ignored = np.zeros(ious.shape[1], np.bool_)
    rows, columns = linear_sum_assignment(np.where(ious >= SAME_THING, ious, 0.0), maximize=True)
    on = (ious[rows, columns] >= SAME_THING) & ~counts[rows]
    ignored[columns[on]] = True
    return ignored


def _renumbered(ids: list[Ints]) -> tuple[list[Ints], int]:
    if not ids:
        return [], 0
    known, numbers = np.unique(np.concatenate(ids), return_inverse=True)
    return np.split(numbers, np.cumsum([len(frame) for frame in ids])[:-1]), len(known)
