"""Curves of a report, and sheets of the worst pictures of each task, as PNG files."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engines.evaluation.detection import BoxEvidence
from engines.evaluation.faces import FaceEvidence, FaceScores
from engines.evaluation.identity import IdentityEvidence, IdentityScores
from engines.evaluation.landmarks import FAILURE, LandmarkEvidence
from engines.evaluation.matching import precision_recall
from engines.evaluation.objects import ObjectScores
from engines.evaluation.scene import ECE_BINS, SceneEvidence, SceneScores, bin_of
from engines.evaluation.sheets import sheet_of_boxes, sheet_of_landmarks, sheet_of_pairs, sheet_of_scenes

COLUMNS = 6  # of small multiples
SIDE_INCHES = 5.0
MARGIN_INCHES = 0.7
DPI = 110


def draw_objects(evidence: BoxEvidence, scores: ObjectScores, folder: Path) -> None:
    """Write ``objects_pr.png`` and ``objects_worst.png``."""
    save(_precision_recall(evidence, scores.ap50_by_label), folder / "objects_pr.png")
    save(sheet_of_boxes(evidence, scores.worst), folder / "objects_worst.png")


def draw_faces(evidence: FaceEvidence, scores: FaceScores, folder: Path) -> None:
    """Write ``faces_pr.png``, ``faces_worst.png``, ``landmarks_nme.png`` and ``landmarks_worst.png``."""
    save(_precision_recall(evidence.boxes, scores.ap50_by_label), folder / "faces_pr.png")
    save(sheet_of_boxes(evidence.boxes, scores.worst), folder / "faces_worst.png")
    save(_cumulative_error(evidence.landmarks), folder / "landmarks_nme.png")
    save(sheet_of_landmarks(evidence.landmarks), folder / "landmarks_worst.png")


def draw_scene(evidence: SceneEvidence, scores: SceneScores, folder: Path) -> None:
    """Write ``scene_reliability.png``, ``scene_confusion.png`` and ``scene_worst.png``."""
    save(_reliability(evidence, scores.ece), folder / "scene_reliability.png")
    save(_confusion(scores), folder / "scene_confusion.png")
    save(sheet_of_scenes(scores.worst), folder / "scene_worst.png")


def draw_identity(evidence: IdentityEvidence, scores: IdentityScores, folder: Path) -> None:
    """Write ``identity_roc.png`` and ``identity_worst.png``."""
    curves = {name: pairs.roc for name, pairs in scores.crops.items()}
    if scores.end_to_end:
        curves[f"{scores.headline} end to end"] = scores.end_to_end.scores.roc
    save(_roc(curves), folder / "identity_roc.png")
    save(sheet_of_pairs(scores.worst), folder / "identity_worst.png")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; a file that is there is replaced when the new one is whole."""
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png", dpi=DPI)
    os.replace(part, path)


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIDE_INCHES, SIDE_INCHES), layout="constrained")
    return figure, figure.add_subplot()


def _precision_recall(evidence: BoxEvidence, ap50: Mapping[str, float | None]) -> Figure:
    """One small curve for each category that has boxes."""
    categories = {name: category for name, category in evidence.matches.categories.items() if category.wanted.any()}
    columns = max(1, min(COLUMNS, len(categories)))
    rows = max(1, -(-len(categories) // columns))
    side = SIDE_INCHES if len(categories) < 2 else SIDE_INCHES / 2
    width, height = columns * side + MARGIN_INCHES, rows * side + MARGIN_INCHES
    figure = Figure(figsize=(width, height))
    # Placed by hand: matplotlib's own layouts take seconds for so many axes.
    left, bottom = MARGIN_INCHES / width, MARGIN_INCHES / height
    figure.subplots_adjust(left, bottom, 1 - left / 4, 1 - bottom / 2, wspace=0.2, hspace=0.2)
    for number, (name, category) in enumerate(categories.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        recall, precision = precision_recall(category)
        axes.plot(recall, precision)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        value = ap50[name]
        axes.set_title(f"{name} ({category.wanted.sum()}), AP50 {0.0 if value is None else value:.3f}", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supxlabel("recall", y=0.1 * bottom, fontsize=10)
    figure.supylabel("precision at IoU 0.5", x=0.1 * left, fontsize=10)
    return figure


def _cumulative_error(evidence: LandmarkEvidence) -> Figure:
    """Share of all faces, missed ones too, that have at most an error."""
    figure, axes = _square()
    share = np.arange(1, int(evidence.found.sum()) + 1) / len(evidence.faces)
    for label, errors in (("inter-ocular", evidence.errors), ("box size", evidence.box_errors)):
        axes.step(np.sort(errors[evidence.found]), share, where="post", label=label)
    axes.axvline(FAILURE, color="grey", linestyle=":", label=f"failure: above {FAILURE:g}, inter-ocular")
    axes.set(xlim=(0, 0.5), ylim=(0, 1), xlabel="normalised mean error", ylabel="share of all faces")
    axes.set_title(f"landmarks of {len(evidence.faces)} faces, {int((~evidence.found).sum())} not found", fontsize=10)
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _reliability(evidence: SceneEvidence, ece: float) -> Figure:
    """Accuracy of each bin of confidence, and how many pictures it has (Guo et al., ICML 2017)."""
    figure = Figure(figsize=(SIDE_INCHES, SIDE_INCHES * 1.25), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    which = bin_of(evidence.confidence)
    counts = np.bincount(which, minlength=ECE_BINS)
    right = np.bincount(which, evidence.hit, minlength=ECE_BINS)
    accuracy = np.divide(right, counts, out=np.zeros(ECE_BINS), where=counts > 0)
    middles = (np.arange(ECE_BINS) + 0.5) / ECE_BINS
    upper.bar(middles, accuracy, width=0.9 / ECE_BINS)
    upper.plot([0, 1], [0, 1], color="grey", linestyle=":")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"scene, {ECE_BINS} bins, ECE {ece:.3f}", fontsize=10)
    lower.bar(middles, counts, width=0.9 / ECE_BINS)
    lower.set(xlabel="confidence", ylabel="pictures")
    return figure


def _confusion(scores: SceneScores) -> Figure:
    """Shares of each true label, and how many pictures."""
    matrix = np.array(scores.confusion)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(SIDE_INCHES, 0.55 * len(matrix) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix).tolist():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(matrix)), scores.labels, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(matrix)), scores.labels, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _roc(curves: Mapping[str, list[tuple[float, float]]]) -> Figure:
    """True-accept rate over the logarithm of the false-accept rate."""
    figure, axes = _square()
    for name, points in curves.items():
        if points:
            axes.step(*np.array(points).T, where="post", label=name)
    axes.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.02), xlabel="false-accept rate", ylabel="true-accept rate")
    axes.set_title("verification", fontsize=10)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3, which="both")
    return figure
