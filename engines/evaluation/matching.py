"""Detections matched to boxes by COCO's rules, kept picture by picture so that pictures can be weighted afterwards."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.arrays import Double, Flags, Rows
from engines.data.coco import CocoBox, CocoSet
from engines.evaluation.coco import BoxDetection

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class CategoryMatches:
    """D detections of one category in P pictures, best first, matched at the overlaps of :data:`IOUS`."""

    scores: Double  # (D,) falling
    pictures: Rows  # (D,) row of the picture that each lies in
    correct: Flags  # (D, 10) whether it found a box that counts
    counts: Flags  # (D, 10) false where it lies on an ignored box: neither right nor wrong
    wanted: Rows  # (P,) boxes that count in each picture

    def at(self, iou: int) -> tuple[Double, Rows, Flags]:
        """Scores, pictures and correctness of the detections that count at the overlap ``IOUS[iou]``."""
        counts = self.counts[:, iou]
        return self.scores[counts], self.pictures[counts], self.correct[counts, iou]


@dataclass(frozen=True, slots=True)
class Matches:
    """All detections of a set of pictures."""

    pictures: tuple[int, ...]  # ids, in the order of the rows
    categories: dict[str, CategoryMatches]  # by name, those without boxes too


def match(truth: CocoSet, detections: Sequence[BoxDetection]) -> Matches:
    """Match detections to boxes as COCO does: within a picture and category, best first, each box once.

    A detection takes the free box that it overlaps most. One that finds none but lies on an ignored box (intersection
    over its own area) is neither right nor wrong, however many do.
    """
    boxes: dict[tuple[int, int], list[CocoBox]] = defaultdict(list)
    found: dict[tuple[int, int], list[BoxDetection]] = defaultdict(list)
    for box in truth.boxes:
        boxes[box.category_id, box.image_id].append(box)
    for detection in detections:
        found[detection.category_id, detection.image_id].append(detection)
    pictures = tuple(sorted(truth.pictures))
    categories = {
        name: _of_category(
            [found.get((key, picture), []) for picture in pictures],
            [boxes.get((key, picture), []) for picture in pictures],
        )
        for key, name in sorted(truth.categories.items())
    }
    return Matches(pictures, categories)


def _of_category(found: Sequence[list[BoxDetection]], boxes: Sequence[list[CocoBox]]) -> CategoryMatches:
    scores, rows, correct, counts = [np.zeros(0)], [np.zeros(0, np.int64)], [_none(0)], [_none(0)]
    for row, (detections, wanted) in enumerate(zip(found, boxes, strict=True)):
        if detections:
            ranked = sorted(detections, key=lambda detection: -detection.score)
            right, ignored = _match_picture(ranked, wanted)
            scores.append(np.array([detection.score for detection in ranked]))
            rows.append(np.full(len(ranked), row))
            correct.append(right)
            counts.append(~ignored)
    together = np.concatenate(scores)
    order = np.argsort(-together, kind="stable")
    return CategoryMatches(
        scores=together[order],
        pictures=np.concatenate(rows)[order],
        correct=np.concatenate(correct)[order],
        counts=np.concatenate(counts)[order],
        wanted=np.array([sum(not box.ignored for box in wanted) for wanted in boxes], np.int64),
    )


def _none(rows: int) -> Flags:
    return np.zeros((rows, len(IOUS)), np.bool_)


def _match_picture(detections: Sequence[BoxDetection], boxes: Sequence[CocoBox]) -> tuple[Flags, Flags]:
    """Which detections, best first, are right and which lie on an ignored box: two arrays (D, 10)."""
    correct, ignored = _none(len(detections)), _none(len(detections))
    if not boxes:
        return correct, ignored
    crowd = np.array([box.ignored for box in boxes])
    overlaps = _overlaps(np.array([each.bbox for each in detections]), np.array([box.bbox for box in boxes]), crowd)
    free = np.repeat(~crowd[None], len(IOUS), axis=0)
    steps = np.arange(len(IOUS))
    for row, overlap in enumerate(overlaps):
        if overlap.max() < IOUS[0]:
            continue
        left = np.where(free, overlap, -1.0)
        # Of boxes that are overlapped equally, COCO takes the last.
        best = len(boxes) - 1 - left[:, ::-1].argmax(axis=1)
        correct[row] = left[steps, best] >= IOUS
        free[steps[correct[row]], best[correct[row]]] = False
        ignored[row] = ~correct[row] & (overlap[crowd].max(initial=-1.0) >= IOUS)
    return correct, ignored


def _overlaps(found: Double, boxes: Double, crowd: Flags) -> Double:
    """(D, G) intersection over union of xywh boxes, for a crowd over the area of the detection."""
    start = np.maximum(found[:, None, :2], boxes[None, :, :2])
    end = np.minimum((found[:, :2] + found[:, 2:])[:, None], (boxes[:, :2] + boxes[:, 2:])[None])
    shared = (end - start).clip(min=0.0).prod(axis=-1)
    own = found[:, 2:].prod(axis=1)[:, None]
    union = np.where(crowd[None], own, own + boxes[:, 2:].prod(axis=1)[None] - shared)
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def precision_recall(category: CategoryMatches) -> tuple[Double, Double]:
    """Recall and precision (K,) after each of the K detections of one category that count, best first."""
    _, _, correct = category.at(0)
    right = np.cumsum(correct)
    return right / max(int(category.wanted.sum()), 1), right / np.arange(1, len(correct) + 1)


def weighted_average_precision(category: CategoryMatches, weights: Double, iou: int = 0) -> Double:
    """COCO's average precision (101 recall points) at the overlap ``IOUS[iou]`` when pictures count several times.

    Args:
        category: of P pictures.
        weights: (R, P) how often each picture counts, in each of R resamples.
        iou: index into :data:`IOUS`.

    Returns:
        (R,) not a number where no box is wanted.
    """
    _, pictures, correct = category.at(iou)
    wanted = weights @ category.wanted
    hits = np.flatnonzero(correct)
    # Precision is at its best right after a correct detection, so only those ranks are looked at: their number, not
    # that of the many wrong detections, makes the size of the arrays.
    ranks: Rows = np.cumsum(correct) - correct
    before = np.zeros((weights.shape[1], len(hits) + 1))
    np.add.at(before, (pictures, ranks), 1.0)
    seen = weights @ np.cumsum(before[:, : len(hits)], axis=1)
    right = np.cumsum(weights[:, pictures[hits]], axis=1)
    precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = np.divide(right, wanted[:, None], out=np.zeros_like(right), where=wanted[:, None] > 0)
    reached = np.searchsorted(RECALLS, recall, side="right")
    average = (envelope * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(wanted > 0, average, np.nan)


@dataclass(frozen=True, slots=True)
class PictureCounts:
    """What was found in each of P pictures at IoU 0.5, from a score on."""

    right: Rows  # (P,)
    wrong: Rows  # (P,) mistaken detections
    missed: Rows  # (P,) boxes that count and were not found

    @property
    def f1(self) -> Double:
        """(P,) F1 of each picture; not a number where there was nothing to find and nothing was found."""
        total = 2 * self.right + self.wrong + self.missed
        f1 = np.full(len(total), np.nan)
        np.divide(2 * self.right, total, out=f1, where=total > 0)
        return f1


def count_pictures(matches: Matches, score: float) -> PictureCounts:
    """Count the detections at or above ``score`` picture by picture, all categories together."""
    pictures = len(matches.pictures)
    right, wrong, wanted = (np.zeros(pictures, np.int64) for _ in range(3))
    for category in matches.categories.values():
        scores, rows, correct = category.at(0)
        shown = scores >= score
        right += np.bincount(rows[shown & correct], minlength=pictures)
        wrong += np.bincount(rows[shown & ~correct], minlength=pictures)
        wanted += category.wanted
    return PictureCounts(right, wrong, wanted - right)
