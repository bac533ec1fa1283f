"""Objects: COCO average precision on ``detection/annotations/instances_val.json``."""

from pathlib import Path

import msgspec

from engines.errors import DataError
from engines.evaluation.coco import MAX_DETECTIONS, BoxDetection, average_precision, detections_of, mean_of
from engines.evaluation.data import CocoSet, Skipped, read_coco
from engines.evaluation.runner import LOW_SCORE, Runner
from engines.spec import Thresholds

PERSON = "person"


class ObjectScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well objects are found; None where the data has no box to find."""

    ap: float | None  # mean over categories and IoU 0.50:0.95
    ap50: float | None
    person_ap50: float | None
    ap50_by_label: dict[str, float | None]
    pictures: int
    boxes: int  # that count
    ignored: int  # boxes marked difficult: neither misses nor mistakes
    score_threshold: float  # detections below it were not looked at
    max_detections: int  # per picture
    nms_iou: float
    skipped: list[str]  # what could not be read


def score_objects(runner: Runner, data: Path, limit: int | None = None) -> ObjectScores:
    """Score the model's objects; ``limit`` looks at that many pictures only.

    Raises:
        DataError: the data is missing or too broken, or has a label that the model does not know.
    """
    skipped = Skipped()
    truth, detections = find_objects(runner, data, runner.curve_thresholds, skipped, limit)
    scores = average_precision(truth, detections)
    ignored = sum(box.ignored for box in truth.boxes)
    return ObjectScores(
        ap=mean_of(scores.ap),
        ap50=mean_of(scores.ap50),
        person_ap50=scores.ap50.get(PERSON),
        ap50_by_label=scores.ap50,
        pictures=len(truth.pictures),
        boxes=len(truth.boxes) - ignored,
        ignored=ignored,
        score_threshold=LOW_SCORE,
        max_detections=MAX_DETECTIONS,
        nms_iou=runner.curve_thresholds.object_iou,
        skipped=skipped.rows,
    )


def find_objects(
    runner: Runner, data: Path, thresholds: Thresholds, skipped: Skipped, limit: int | None = None
) -> tuple[CocoSet, list[BoxDetection]]:
    """The annotated pictures that could be read, and what the model finds in them.

    A label of the model that the data does not name is left out: nothing says whether it is right.
    """
    truth = read_coco(data, "detection", "instances_val.json", skipped, limit)
    categories = _categories_by_label(truth, runner.model.spec.objects)
    ids = {path: key for key, path in truth.pictures.items()}
    detections: list[BoxDetection] = []
    seen = []
    for picture in runner.see("objects", list(ids), thresholds, skipped):
        key, objects = ids[picture.path], picture.detections.objects
        seen.append(key)
        named = [(row, categories[label]) for row, label in enumerate(objects.labels.tolist()) if label in categories]
        rows = [row for row, _ in named]
        detections += detections_of(key, objects.boxes[rows], objects.scores[rows], [category for _, category in named])
    return truth.of(seen), detections


def _categories_by_label(truth: CocoSet, labels: tuple[str, ...]) -> dict[int, int]:
    """The data's category id of each of the model's labels."""
    missing = sorted(set(truth.categories.values()) - set(labels))
    if missing:
        raise DataError(f"the data has objects that the model does not know: {', '.join(missing)}")
    ids = {name: key for key, name in truth.categories.items()}
    return {index: ids[label] for index, label in enumerate(labels) if label in ids}
