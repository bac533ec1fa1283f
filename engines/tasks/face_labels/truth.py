"""The faces that a label is scored on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.data.crops import LabelledCrop
from engines.data.reading import SkippedRows, spread
from engines.errors import DataError
from engines.tasks.base import Task
from engines.tasks.face_labels import data as sets_of
from engines.tasks.face_labels.data import FaceLabelSource
from engines.training.settings import DatasetSettings


@dataclass(frozen=True, slots=True)
class FaceLabelTruth:
    """Faces and the label of each."""

    crops: list[LabelledCrop]

    @property
    def pictures(self) -> list[Path]:
        """The pictures, each once, in order."""
        return sorted({crop.file for crop in self.crops})


@dataclass(frozen=True)
class FaceLabelValidation:
    """Where a task's truth comes from."""

    task: Task

    def standard(self, data: Path, skipped: SkippedRows, limit: int | None) -> FaceLabelTruth:
        """The validation faces of the standard folder; ``limit`` is of faces.

        Raises:
            DataError: the task has no such folder, or a file is missing or of another kind.
        """
        if self.task.standard is None:
            raise DataError(f"task {self.task.name} has no standard folder: name sets of it under validation_sets")
        source = FaceLabelSource(**self.task.standard)
        return FaceLabelTruth(list(spread(sets_of.of(self.task).rows(source, data, skipped), limit)))

    def labelled(
        self,
        sets: Sequence[tuple[DatasetSettings, Callable[[Path], bool]]],
        data: Path,
        skipped: SkippedRows,
        limit: int | None,
    ) -> FaceLabelTruth:
        """The faces of the sets, of the pictures that each one's function takes.

        Raises:
            DataError: a file is missing or of another kind.
        """
        rows = sets_of.of(self.task).rows
        crops = [crop for entry, wanted in sets for crop in rows(entry.source, data, skipped) if wanted(crop.file)]
        return FaceLabelTruth(list(spread(crops, limit)))


def of(task: Task) -> FaceLabelValidation:
    """What ``truth`` of a task's folder has."""
    return FaceLabelValidation(task)
