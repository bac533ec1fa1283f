"""Average precision as COCO defines it, through faster-coco-eval."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from faster_coco_eval.core.coco import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster

from engines.arrays import Double, Float
from engines.data.coco import CocoBox, CocoSet

MAX_DETECTIONS = 100  # per picture, best first
AREAS = {  # of boxes, in source pixels
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
AT_75 = 5  # row of IoU 0.75 among 0.50, 0.55, ..., 0.95


class BoxDetection(msgspec.Struct, frozen=True):
    """One detected box."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    score: float


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """Average precision and recall by category; None for a category that has no boxes (of a size) in the data."""

    ap: dict[str, float | None]  # mean over IoU 0.50, 0.55, ..., 0.95
    ap50: dict[str, float | None]  # at IoU 0.50
    ap75: dict[str, float | None]  # at IoU 0.75
    ap_small: dict[str, float | None]  # as ap, for boxes below 32 x 32 source pixels
    ap_medium: dict[str, float | None]  # below 96 x 96
    ap_large: dict[str, float | None]  # the rest
    ar100: dict[str, float | None]  # recall, mean over the same overlaps


def mean_of(values: dict[str, float | None]) -> float | None:
    """Mean over the categories that the data has boxes of; None when it has none."""
    known = [value for value in values.values() if value is not None]
    return float(np.mean(known)) if known else None


def detections_of(image_id: int, boxes: Float, scores: Float, categories: Sequence[int]) -> list[BoxDetection]:
    """The best detections of one picture: boxes (N, 4) xyxy in pixels, scores (N,), best first, a category id each."""
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)[:MAX_DETECTIONS].tolist()
    return [
        BoxDetection(image_id, category, (x, y, width, height), score)
        for (x, y, width, height), score, category in zip(sized, scores.tolist(), categories, strict=False)
    ]


def average_precision(truth: CocoSet, detections: Sequence[BoxDetection]) -> AveragePrecision:
    """COCO average precision: 101 recall points, at most 100 detections a picture, all boxes and those of each size.

    Ignored boxes follow COCO's rule for crowds: a detection that lies on one (intersection over the detection's own
    area) is neither right nor wrong, however many do, and an ignored box that nobody found is no miss.
    """
    evaluation = COCOeval_faster(_as_coco(truth, truth.boxes), _as_coco(truth, detections), iouType="bbox")
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.params.areaRng = [list(area) for area in AREAS.values()]
    evaluation.params.areaRngLbl = list(AREAS)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[..., 0]  # (IoU, recall, category, area)
    recall = np.asarray(evaluation.eval["recall"])[:, None, :, 0, 0]  # (IoU, 1, category)
    names = [truth.categories[key] for key in evaluation.params.catIds]
    whole, small, medium, large = (precision[..., area] for area in range(len(AREAS)))
    return AveragePrecision(
        ap=_by_category(names, whole),
        ap50=_by_category(names, whole[:1]),
        ap75=_by_category(names, whole[AT_75 : AT_75 + 1]),
        ap_small=_by_category(names, small),
        ap_medium=_by_category(names, medium),
        ap_large=_by_category(names, large),
        ar100=_by_category(names, recall),
    )


def _by_category(names: Sequence[str], values: Double) -> dict[str, float | None]:
    scores: dict[str, float | None] = {}
    for column, name in enumerate(names):
        known = values[:, :, column]
        # The library marks a category without boxes by -1.
        scores[name] = float(known.mean()) if (known > -1).all() else None
    return scores


def _as_coco(truth: CocoSet, boxes: Sequence[CocoBox | BoxDetection]) -> COCO:
    """Boxes of the pictures as the library wants them; its own loadRes cannot take an empty list."""
    annotations = [
        {
            "id": number,
            "image_id": box.image_id,
            "category_id": box.category_id,
            "bbox": list(box.bbox),
            "area": box.bbox[2] * box.bbox[3],
            # The library, like the one it follows, reads ``iscrowd`` alone and forgets ``ignore``.
            **({"iscrowd": int(box.ignored)} if isinstance(box, CocoBox) else {"iscrowd": 0, "score": box.score}),
        }
        for number, box in enumerate(boxes, start=1)  # not the file's ids: the library takes 0 for "no match"
    ]
    return COCO(
        {
            "images": [{"id": key} for key in truth.pictures],
            "annotations": annotations,
            "categories": [{"id": key, "name": name} for key, name in truth.categories.items()],
        }
    )
