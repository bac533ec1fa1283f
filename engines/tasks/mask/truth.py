"""The faces that masks are scored on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.data.crops import LabelledCrop
from engines.data.reading import SkippedRows, spread
from engines.tasks.mask.data import MaskSource, rows
from engines.training.settings import DatasetSettings

STANDARD = MaskSource(
    images="face_detection/images/val",
    file="face_detection/annotations/instances_val.json",
    points="face_detection/annotations/landmarks5_silver_val.json",
)


@dataclass(frozen=True, slots=True)
class MaskTruth:
    """Faces and how each wears a mask."""

    crops: list[LabelledCrop]

    @property
    def pictures(self) -> list[Path]:
        """The pictures, each once, in order."""
        return sorted({crop.file for crop in self.crops})


def standard(data: Path, skipped: SkippedRows, limit: int | None) -> MaskTruth:
    """The validation faces of the standard folder; ``limit`` is of faces.

    Raises:
        DataError: a file is missing or of another kind.
    """
    return MaskTruth(list(spread(rows(STANDARD, data, skipped), limit)))


def labelled(
    sets: Sequence[tuple[DatasetSettings, Callable[[Path], bool]]], data: Path, skipped: SkippedRows, limit: int | None
) -> MaskTruth:
    """The faces of the sets, of the pictures that each one's function takes.

    Raises:
        DataError: a file is missing or of another kind.
    """
    crops = [crop for entry, wanted in sets for crop in rows(entry.source, data, skipped) if wanted(crop.file)]
    return MaskTruth(list(spread(crops, limit)))
