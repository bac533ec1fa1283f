"""Scenes: accuracy and calibration of the scene probabilities."""

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engines.boxes import Float
from engines.errors import DataError
from engines.evaluation.data import SCENE_FOLDERS, Skipped, pictures_below, scene_of, spread
from engines.evaluation.runner import Runner

ECE_BINS = 15


class SceneScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well the kind of scene is told, and how far its probabilities can be believed."""

    top1: float
    top5: float
    ece: float  # expected calibration error
    ece_bins: int
    top1_by_label: dict[str, float]
    pictures: int
    skipped: list[str]


def score_scene(runner: Runner, data: Path, limit: int | None = None) -> SceneScores:
    """Score the scene probabilities of whole, letterboxed pictures; ``limit`` looks at that many pictures only.

    Raises:
        DataError: the data is missing or too broken, or has a label that the model does not know.
    """
    folders = [data / "classification" / name / "val" for name in SCENE_FOLDERS]
    pictures = spread([path for folder in folders for path in pictures_below(folder)], limit)
    labels = {path: _label(path, runner.model.spec.scenes) for path in pictures}
    skipped = Skipped()
    truth, rows = [], []
    for picture in runner.see("scene", pictures, runner.model.spec.thresholds, skipped):
        truth.append(labels[picture.path])
        rows.append(picture.detections.scene)
    probabilities, target = np.stack(rows), np.array(truth)
    hit = probabilities.argmax(axis=1) == target
    return SceneScores(
        top1=float(hit.mean()),
        top5=top_k(probabilities, target, 5),
        ece=calibration_error(probabilities.max(axis=1), hit),
        ece_bins=ECE_BINS,
        top1_by_label={runner.model.spec.scenes[label]: float(hit[target == label].mean()) for label in set(truth)},
        pictures=len(truth),
        skipped=skipped.rows,
    )


def _label(picture: Path, scenes: tuple[str, ...]) -> int:
    name = scene_of(picture.parent)
    if name not in scenes:
        raise DataError(f"the data has a scene that the model does not know: {name}")
    return scenes.index(name)


def top_k(probabilities: Float, target: npt.NDArray[np.integer], k: int) -> float:
    """Share of the rows of ``probabilities`` (N, C) whose ``target`` (N,) class is among their ``k`` largest."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == target[:, None]).any(axis=1).mean())


def calibration_error(confidence: Float, correct: npt.NDArray[np.bool_], bins: int = ECE_BINS) -> float:
    """Expected calibration error: mean distance of accuracy from confidence, in bins of equal width.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1].
        correct: (N,) whether the prediction is right.
        bins: bin m of M covers confidences in ((m - 1) / M, m / M].
    """
    which = np.clip(np.ceil(confidence.astype(np.float64) * bins) - 1, 0, bins - 1).astype(int)
    # Bin by bin |accuracy - confidence| weighted by its share; a sum of differences, divided once.
    gaps = np.bincount(which, correct.astype(np.float64) - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
