"""Objects: COCO average precision."""

import msgspec

from engines.data.coco import CocoSet
from engines.data.names import coco_name
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation.coco import BoxDetection, detections_of
from engines.evaluation.detection import BoxEvidence, BoxScores, score_boxes
from engines.evaluation.parts import CardRow
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import Truth
from engines.spec import Thresholds

PERSON = "person"


class ObjectScores(BoxScores, frozen=True, kw_only=True):
    """How well objects are found; None where the data has no box to find."""

    person_ap50: float | None


def gather(runner: ModelRunner, truth: Truth) -> BoxEvidence:
    """Run the model over the annotated pictures.

    Raises:
        DataError: too many pictures cannot be read, or one has a label that the model does not know.
    """
    skipped = SkippedRows()
    assert truth.objects is not None
    found, detections = find_objects(runner, truth.objects, runner.curve_thresholds, skipped)
    own = runner.model.spec.thresholds
    rows = [*truth.skipped.get("objects", ()), *skipped.rows]
    return BoxEvidence.of(found, detections, own.object_score, own.object_iou, rows)


def score(evidence: BoxEvidence) -> ObjectScores:
    """The figures of the objects that were found."""
    scores = score_boxes(evidence)
    return ObjectScores(**msgspec.structs.asdict(scores), person_ap50=scores.ap50_by_label.get(PERSON))


def find_objects(
    runner: ModelRunner, truth: CocoSet, thresholds: Thresholds, skipped: SkippedRows
) -> tuple[CocoSet, list[BoxDetection]]:
    """The annotated pictures that could be read, and what the model finds in them.

    A label of the model that the data does not name is left out: nothing says whether it is right.
    """
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
    """The data's category id of each of the model's labels; Pascal VOC's names count as COCO's."""
    known = [coco_name(label) for label in labels]
    ids = {coco_name(name): key for key, name in truth.categories.items()}
    missing = sorted(set(ids) - set(known))
    if missing:
        raise DataError(f"the data has objects that the model does not know: {', '.join(missing)}")
    return {index: ids[label] for index, label in enumerate(known) if label in ids}


def rows(scores: ObjectScores) -> list[CardRow]:
    """The figures of the model card."""
    return [
        ("objects AP", scores.ap, scores.intervals.get("ap")),
        ("objects AP50", scores.ap50, scores.intervals.get("ap50")),
        ("objects AP, boxes below 32 x 32 pixels", scores.ap_small, None),
        ("objects AP, below 96 x 96", scores.ap_medium, None),
        ("objects AP, larger ones", scores.ap_large, None),
        ("person AP50", scores.person_ap50, scores.intervals.get("person_ap50")),
        ("objects ECE", scores.ece, None),
    ]


def worst(scores: ObjectScores) -> dict[str, list[tuple[str, ...]]]:
    """The pictures with the lowest F1."""
    return {"objects": [(each.picture,) for each in scores.worst]}
