"""Thresholds from data: where a model's scores and similarities start to mean something."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engines.boxes import Float, iou_matrix
from engines.errors import DataError
from engines.evaluation.coco import BoxDetection
from engines.evaluation.data import CocoBox, CocoSet, Skipped, identity_of, pictures_below
from engines.evaluation.faces import find_faces
from engines.evaluation.identity import FOLDER, embed_whole
from engines.evaluation.objects import find_objects
from engines.evaluation.runner import Runner
from engines.evaluation.verification import accept_threshold
from engines.spec import Thresholds

FALSE_ACCEPT_RATE = 1e-3  # of one comparison; a frame compares each face with everybody in the gallery
MATCH_IOU = 0.5
BETA = 0.5  # whoever watches minds a thing that is not there more than one that is missed in a frame

Flags = npt.NDArray[np.bool_]


def calibrate_thresholds(runner: Runner, data: Path, far: float = FALSE_ACCEPT_RATE) -> Thresholds:
    """Choose a model's thresholds on validation data; the NMS overlaps stay as they are.

    Object and face scores: where F0.5 at IoU 0.5 is best, over all categories together. Identity similarity: where the
    share ``far`` of impostor pairs is accepted, on all crops and, with the new face score, on faces that the network
    finds and aligns itself; the higher of the two.

    Raises:
        DataError: the data is missing or too broken.
    """
    skipped = Skipped()
    objects = best_f_threshold(*matched(*find_objects(runner, data, runner.curve_thresholds, skipped)), BETA)
    faces = best_f_threshold(*matched(*find_faces(runner, data, runner.curve_thresholds, skipped)), BETA)
    chosen = msgspec.structs.replace(
        runner.curve_thresholds, object_score=round(objects, 3), face_score=round(faces, 3)
    )
    similarity = max(
        _crop_threshold(runner, data / FOLDER, skipped, far),
        _whole_threshold(runner, data / FOLDER, chosen, skipped, far),
    )
    # Rounded up, so that no more impostors pass than were asked for.
    return msgspec.structs.replace(chosen, identity_similarity=min(1.0, float(np.ceil(similarity * 1000) / 1000)))


def _crop_threshold(runner: Runner, folder: Path, skipped: Skipped, far: float) -> float:
    embeddings = runner.embed_crops("face crops", pictures_below(folder / "val"), skipped)
    # Pictures of different sets are told apart by their colours and sizes, which would make impostors look easy.
    sets = np.array([_set_of(path) for path in embeddings])
    return identity_threshold(*_stacked(embeddings), far, sets)


def _whole_threshold(runner: Runner, folder: Path, thresholds: Thresholds, skipped: Skipped, far: float) -> float:
    pictures = pictures_below(folder / "lfw_loose_val")
    found = embed_whole(runner, pictures, thresholds, skipped)
    names = {identity_of(path) for path in found.embeddings}
    return identity_threshold(*_stacked(found.embeddings), far) if len(names) > 1 else -1.0


def _set_of(crop: Path) -> str:
    """The set that a crop comes from: ``lfw_0001.webp``, ``ytf_07.webp``, ``bolly_NAME/...``; singletons are LFW's."""
    for name in ("ytf", "bolly"):
        if crop.name.startswith(f"{name}_") or crop.parent.name.startswith(f"{name}_"):
            return name
    return "lfw"


def _stacked(embeddings: dict[Path, Float]) -> tuple[Float, npt.NDArray[np.str_]]:
    names = np.array([identity_of(path) for path in embeddings])
    return np.stack(list(embeddings.values())), names


def identity_threshold(
    embeddings: Float,
    identities: npt.NDArray[np.generic],
    far: float = FALSE_ACCEPT_RATE,
    sets: npt.NDArray[np.generic] | None = None,
) -> float:
    """The lowest cosine similarity that accepts at most the share ``far`` of all impostor pairs.

    Args:
        embeddings: (N, D) of unit length.
        identities: (N,) who each shows.
        far: false-accept rate of one comparison, in (0, 1).
        sets: (N,) pairs across different sets are left out; None: all pairs count.

    Raises:
        DataError: there is no impostor pair.
    """
    impostor = identities[:, None] != identities[None]
    if sets is not None:
        impostor &= sets[:, None] == sets[None]
    impostors = (embeddings @ embeddings.T)[np.triu(impostor, 1)]
    if not len(impostors):
        raise DataError("identity threshold: needs faces of at least two people")
    return accept_threshold(impostors, far)


def best_f_threshold(scores: npt.NDArray[np.float64], correct: Flags, wanted: int, beta: float = 1.0) -> float:
    """The score threshold with the best F-beta: recall is worth ``beta`` precisions (van Rijsbergen 1979).

    Args:
        scores: (N,) of all detections that count.
        correct: (N,) whether each found something that was wanted.
        wanted: how many there were to find.
        beta: what recall is worth; 1 for the harmonic mean of both.

    Returns:
        Half-way between the lowest score to keep and the next one.

    Raises:
        DataError: nothing wanted was found, so no threshold is better than another.
    """
    if not correct.any():
        raise DataError("score threshold: the model finds nothing that the data wants found")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f = (1 + beta**2) * np.cumsum(correct[order]) / (np.arange(1, len(ranked) + 1) + beta**2 * wanted)
    below = np.append(ranked[1:], 0.0)
    f[ranked == below] = -1.0  # a threshold cannot part equal scores
    best = int(f.argmax())
    return float(ranked[best] + below[best]) / 2


def matched(truth: CocoSet, detections: Sequence[BoxDetection]) -> tuple[npt.NDArray[np.float64], Flags, int]:
    """Match detections to boxes, best first, each box once, at IoU 0.5 within a picture and category.

    Returns:
        (N,) scores and (N,) whether each is right, without detections that lie on an ignored box; how many boxes count.
    """
    boxes: dict[tuple[int, int], list[CocoBox]] = defaultdict(list)
    found: dict[tuple[int, int], list[BoxDetection]] = defaultdict(list)
    for box in truth.boxes:
        boxes[box.image_id, box.category_id].append(box)
    for detection in detections:
        found[detection.image_id, detection.category_id].append(detection)
    rows = [row for key, group in found.items() for row in _match_group(boxes[key], group)]
    scores, correct = np.array([score for score, _ in rows]), np.array([right for _, right in rows], np.bool_)
    return scores, correct, sum(not box.ignored for box in truth.boxes)


def _match_group(boxes: list[CocoBox], detections: list[BoxDetection]) -> list[tuple[float, bool]]:
    """Scores of the detections of one picture and category that count, and whether each is right."""
    detections = sorted(detections, key=lambda detection: -detection.score)
    if not boxes:
        return [(detection.score, False) for detection in detections]
    corners = np.array([_corners(detection) for detection in detections], np.float32)
    overlaps = iou_matrix(corners, np.array([box.xyxy for box in boxes], np.float32))
    ignored = np.array([box.ignored for box in boxes])
    free = ~ignored
    rows = []
    for detection, overlap in zip(detections, overlaps, strict=True):
        best = int(np.where(free, overlap, -1.0).argmax())
        if free[best] and overlap[best] >= MATCH_IOU:
            free[best] = False
            rows.append((detection.score, True))
        elif not (overlap[ignored] >= MATCH_IOU).any():
            rows.append((detection.score, False))
    return rows


def _corners(detection: BoxDetection) -> tuple[float, float, float, float]:
    x, y, width, height = detection.bbox
    return x, y, x + width, y + height
