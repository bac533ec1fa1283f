"""Curves of objects, and a sheet of the worst pictures, as PNG files."""

from pathlib import Path

from engines.evaluation.detection import BoxEvidence
from engines.evaluation.plots import precision_recall_curves, save
from engines.evaluation.sheets import sheet_of_boxes
from engines.tasks.objects.metrics import ObjectScores


def draw(evidence: BoxEvidence, scores: ObjectScores, folder: Path) -> None:
    """Write ``objects_pr.png`` and ``objects_worst.png``."""
    save(precision_recall_curves(evidence, scores.ap50_by_label), folder / "objects_pr.png")
    save(sheet_of_boxes(evidence, scores.worst), folder / "objects_worst.png")
