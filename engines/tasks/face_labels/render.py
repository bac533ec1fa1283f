"""Confusion of labels of faces, and a sheet of the most confident wrong answers, as PNG files."""

from dataclasses import dataclass
from pathlib import Path

from engines.evaluation.plots import confusion_figure, save
from engines.evaluation.sheets import FOUND, rectangle, sheet, show
from engines.tasks.base import Task
from engines.tasks.face_labels.metrics import FaceLabelEvidence, FaceLabelScores


@dataclass(frozen=True)
class FaceLabelPlots:
    """The pictures of a task."""

    name: str

    def draw(self, evidence: FaceLabelEvidence, scores: FaceLabelScores, folder: Path) -> None:
        """Write ``TASK_confusion.png`` and ``TASK_worst.png``."""
        save(confusion_figure(scores.confusion, scores.labels), folder / f"{self.name}_confusion.png")
        figure, tiles = sheet(len(scores.worst), "most confident wrong answers")
        for axes, row in zip(tiles, scores.worst, strict=True):
            show(axes, row.picture, f"{row.label}, taken for {row.predicted} ({row.probability:.2f})")
            if row.box is not None:
                left, top, right, bottom = row.box
                rectangle(axes, (left, top, right - left, bottom - top), FOUND, row.predicted)
        save(figure, folder / f"{self.name}_worst.png")


def of(task: Task) -> FaceLabelPlots:
    """What ``render`` of a task's folder has."""
    return FaceLabelPlots(task.name)
