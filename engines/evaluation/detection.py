"""What the scores of objects and faces have in common: average precision, its intervals and the worst pictures."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec
import numpy as np

from engines.data.coco import CocoSet
from engines.evaluation.bootstrap import (
    Interval,
    mean_over_categories,
    percentile_interval,
    resample,
    resampled_precision,
)
from engines.evaluation.coco import AT_75, MAX_DETECTIONS, BoxDetection, average_precision, mean_of
from engines.evaluation.matching import Matches, count_pictures, match, weighted_average_precision
from engines.evaluation.reliability import calibration_errors
from engines.evaluation.runner import LOW_SCORE

WORST = 10  # pictures listed and drawn of each task
SOURCE_PICTURES = 20  # the fewest that make a source
ECE_SCORE = 0.1  # lower scores are of what nobody is shown, and would be nearly all of the detections


@dataclass(frozen=True, slots=True)
class BoxEvidence:
    """Annotated pictures and what was found in them, of which every figure is made."""

    truth: CocoSet
    detections: list[BoxDetection]
    matches: Matches
    score: float  # the model's own threshold, at which pictures are called bad
    nms_iou: float
    skipped: list[str]

    @classmethod
    def of(
        cls, truth: CocoSet, detections: list[BoxDetection], score: float, nms_iou: float, skipped: Sequence[str]
    ) -> "BoxEvidence":
        """The evidence with its detections matched."""
        return cls(truth, detections, match(truth, detections), score, nms_iou, list(skipped))


class WorstPicture(msgspec.Struct, frozen=True, kw_only=True):
    """One of the pictures in which boxes are found worst, at IoU 0.5 and the model's own score threshold."""

    picture: str
    picture_id: int
    f1: float
    missed: int  # boxes that were not found
    mistaken: int  # detections that are no box, or a second one of it


class SourceScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well boxes are found in the pictures of one source."""

    ap50: float | None  # mean over the categories that it has boxes of
    pictures: int
    boxes: int  # that count


class BoxScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well boxes are found; None where the data has none to find."""

    ap: float | None  # mean over categories and IoU 0.50:0.95
    ap50: float | None
    ap75: float | None
    ap_small: float | None  # boxes below 32 x 32 source pixels
    ap_medium: float | None  # below 96 x 96
    ap_large: float | None
    ar100: float | None  # recall with at most 100 detections a picture, mean over the same overlaps
    ece: float | None = None  # expected calibration error of detections from ECE_SCORE on, at IoU 0.5
    ap50_by_label: dict[str, float | None]
    by_source: dict[str, SourceScores] = {}  # by the beginning of the pictures' names; empty where they tell no sources
    intervals: dict[str, Interval | None]  # by figure
    pictures: int
    boxes: int  # that count
    ignored: int  # boxes marked difficult: neither misses nor mistakes
    score_threshold: float  # detections below it were not looked at
    max_detections: int  # per picture
    nms_iou: float
    worst: list[WorstPicture]  # the worst first
    skipped: list[str]  # what could not be read


def score_boxes(evidence: BoxEvidence) -> BoxScores:
    """The figures of found boxes, and intervals of them and, as ``NAME_ap50``, of each category."""
    scores = average_precision(evidence.truth, evidence.detections)
    ignored = sum(box.ignored for box in evidence.truth.boxes)
    return BoxScores(
        **{name: mean_of(values) for name, values in asdict(scores).items()},
        ece=_calibration_error(evidence.matches),
        ap50_by_label=scores.ap50,
        by_source=score_sources(evidence.truth, evidence.matches),
        intervals=_intervals(evidence.matches),
        pictures=len(evidence.truth.pictures),
        boxes=len(evidence.truth.boxes) - ignored,
        ignored=ignored,
        score_threshold=LOW_SCORE,
        max_detections=MAX_DETECTIONS,
        nms_iou=evidence.nms_iou,
        worst=worst_pictures(evidence),
        skipped=evidence.skipped,
    )


def score_sources(truth: CocoSet, matches: Matches) -> dict[str, SourceScores]:
    """The figures of the pictures of each source, largest first."""
    sources = sources_of(truth)
    rows = {key: row for row, key in enumerate(matches.pictures)}
    weights = np.zeros((len(sources), len(matches.pictures)))
    for each, pictures in zip(weights, sources.values(), strict=True):
        each[[rows[key] for key in pictures]] = 1.0
    if not sources:
        return {}
    precision = np.stack([weighted_average_precision(category, weights) for category in matches.categories.values()])
    means = mean_over_categories(precision.T).tolist()
    wanted = sum(category.wanted for category in matches.categories.values())
    return {
        name: SourceScores(ap50=None if np.isnan(mean) else mean, pictures=len(pictures), boxes=int(each @ wanted))
        for (name, pictures), mean, each in zip(sources.items(), means, weights, strict=True)
    }


def sources_of(truth: CocoSet) -> dict[str, list[int]]:
    """The pictures (ids) of each source, which the names of their files begin with: ``SOURCE_REST``, largest first.

    What has fewer than :data:`SOURCE_PICTURES` is "other". Empty where there are not at least two sources, or as many
    beginnings as do not tell sources but, say, people.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for key, path in truth.pictures.items():
        found[path.stem.partition("_")[0]].append(key)
    large = {name: keys for name, keys in found.items() if len(keys) >= SOURCE_PICTURES}
    other = [key for name, keys in found.items() if name not in large for key in keys]
    if len(large) < 2 or len(other) > len(truth.pictures) // 2:
        return {}
    ordered = dict(sorted(large.items(), key=lambda each: -len(each[1])))
    return ordered | ({"other": other} if other else {})


def _calibration_error(matches: Matches) -> float | None:
    found = [category.at(0) for category in matches.categories.values()]
    scores = np.concatenate([each[0] for each in found])
    shown = scores >= ECE_SCORE
    if not shown.any():
        return None
    correct = np.concatenate([each[2] for each in found])[shown]
    return float(calibration_errors(scores[shown], correct, np.ones((1, len(correct))))[0])


def _intervals(matches: Matches) -> dict[str, Interval | None]:
    precision = resampled_precision(matches, resample(len(matches.pictures)))
    figures = {
        "ap": mean_over_categories(precision.mean(axis=2)),
        "ap50": mean_over_categories(precision[:, :, 0]),
        "ap75": mean_over_categories(precision[:, :, AT_75]),
    }
    figures |= {f"{name}_ap50": precision[:, row, 0] for row, name in enumerate(matches.categories)}
    return {name: percentile_interval(values) for name, values in figures.items()}


def worst_pictures(evidence: BoxEvidence) -> list[WorstPicture]:
    """The pictures with the lowest F1; of equally low ones those with most errors. Pictures without error are none."""
    matches = evidence.matches
    counts = count_pictures(matches, evidence.score)
    errors, f1 = counts.wrong + counts.missed, counts.f1
    order = [row for row in np.lexsort((-errors, f1)).tolist() if errors[row]]
    return [
        WorstPicture(
            picture=str(evidence.truth.pictures[matches.pictures[row]]),
            picture_id=matches.pictures[row],
            f1=float(f1[row]),
            missed=int(counts.missed[row]),
            mistaken=int(counts.wrong[row]),
        )
        for row in order[:WORST]
    ]
