"""Reliability and confusion of scenes, and a sheet of the worst pictures, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from engines.evaluation.plots import SIDE_INCHES, confusion_figure, save
from engines.evaluation.reliability import ECE_BINS, bin_of
from engines.evaluation.sheets import sheet, show
from engines.tasks.scene.metrics import SceneEvidence, SceneScores, WorstScene


def draw(evidence: SceneEvidence, scores: SceneScores, folder: Path) -> None:
    """Write ``scene_reliability.png``, ``scene_confusion.png`` and ``scene_worst.png``."""
    save(_reliability(evidence, scores.ece), folder / "scene_reliability.png")
    save(confusion_figure(scores.confusion, scores.labels), folder / "scene_confusion.png")
    save(sheet_of_scenes(scores.worst), folder / "scene_worst.png")


def sheet_of_scenes(worst: Sequence[WorstScene]) -> Figure:
    """What each picture was taken for."""
    figure, tiles = sheet(len(worst), "most confident wrong answers")
    for axes, row in zip(tiles, worst, strict=True):
        show(axes, row.picture, f"{row.label}, taken for\n{row.predicted} ({row.probability:.2f})")
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
