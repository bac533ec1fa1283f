"""Faces of which something is said: boxes in COCO JSON with an ``attr``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from engines.data.coco import read_coco_file, with_points
from engines.data.crops import LabelledCrop
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.tasks.base import Task


class FaceLabelSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``labels.TASK`` of a set; paths are relative to the folder of the data."""

    images: str  # folder of the pictures
    file: str  # COCO JSON with ``attr``, a label of the task, of each box; boxes without it are left out
    points: str | None = None  # file of five landmarks by annotation id; faces without are cut by their box
    min_px: Annotated[int, msgspec.Meta(ge=1)] = 16  # shorter side of the faces that are large enough to tell


@dataclass(frozen=True)
class FaceLabelSets:
    """The sets of a task."""

    SOURCE: ClassVar = FaceLabelSource
    labels: tuple[str, ...]

    def rows(self, source: FaceLabelSource, data: Path, skipped: SkippedRows) -> list[LabelledCrop]:
        """The faces that are labelled and large enough, in the order of the file.

        Raises:
            DataError: a file is missing or of another kind, or there is another ``attr``.
        """
        found = read_coco_file(data / source.file, data / source.images, skipped)
        if source.points is not None:
            found = with_points(found, data / source.points)
        crops = []
        for box in found.boxes:
            if box.ignored or box.attr is None or min(box.bbox[2:]) < source.min_px:
                continue
            if box.attr not in self.labels:
                raise DataError(
                    f"{data / source.file}: annotation {box.id} has attr {box.attr!r}, "
                    f"allowed are {', '.join(self.labels)}"
                )
            points = None if box.points5 is None else list(box.points5)
            crops.append(LabelledCrop(found.pictures[box.image_id], box.attr, points, box.xyxy))
        return crops


def of(task: Task) -> FaceLabelSets:
    """What ``data`` of a task's folder has."""
    return FaceLabelSets(task.labels)
