"""Faces with and without masks: boxes in COCO JSON whose ``attr`` says which."""

from pathlib import Path
from typing import Annotated

import msgspec

from engines.data.coco import read_coco_file, with_points
from engines.data.crops import LabelledCrop
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.tasks.mask import TASK


class MaskSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``labels.mask`` of a set; paths are relative to the folder of the data."""

    images: str  # folder of the pictures
    file: str  # COCO JSON with ``attr`` mask, no_mask or mask_wrong of each box; boxes without it are left out
    points: str | None = None  # file of five landmarks by annotation id; faces without are cut by their box
    min_px: Annotated[int, msgspec.Meta(ge=1)] = 16  # shorter side of the faces that are large enough to tell


SOURCE = MaskSource


def rows(source: MaskSource, data: Path, skipped: SkippedRows) -> list[LabelledCrop]:
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
        if box.attr not in TASK.labels:
            raise DataError(
                f"{data / source.file}: annotation {box.id} has attr {box.attr!r}, allowed are {', '.join(TASK.labels)}"
            )
        points = None if box.points5 is None else list(box.points5)
        crops.append(LabelledCrop(found.pictures[box.image_id], box.attr, points, box.xyxy))
    return crops
