"""Confusion of masks, and a sheet of the most confident wrong answers, as PNG files."""

from pathlib import Path

from engines.evaluation.plots import confusion_figure, save
from engines.evaluation.sheets import FOUND, rectangle, sheet, show
from engines.tasks.mask.metrics import MaskEvidence, MaskScores


def draw(evidence: MaskEvidence, scores: MaskScores, folder: Path) -> None:
    """Write ``mask_confusion.png`` and ``mask_worst.png``."""
    save(confusion_figure(scores.confusion, scores.labels), folder / "mask_confusion.png")
    figure, tiles = sheet(len(scores.worst), "most confident wrong answers")
    for axes, row in zip(tiles, scores.worst, strict=True):
        show(axes, row.picture, f"{row.label}, taken for {row.predicted} ({row.probability:.2f})")
        if row.box is not None:
            left, top, right, bottom = row.box
            rectangle(axes, (left, top, right - left, bottom - top), FOUND, row.predicted)
    save(figure, folder / "mask_worst.png")
