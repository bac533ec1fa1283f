"""The faces of the training sets whose pictures are faces."""

from pathlib import Path
from typing import Any, Protocol, cast

from engines.data.crops import LabelledCrop
from engines.data.folders import NOBODY
from engines.data.reading import SkippedRows
from engines.data.sources import labelled_pictures, points_of
from engines.tasks import Task, task
from engines.training.settings import DatasetSettings


class DataPart(Protocol):
    """``data.py`` of a task whose sets have a table of their own under ``labels``."""

    SOURCE: type[Any]  # the msgspec struct of the table

    def rows(self, source: Any, data: Path, skipped: SkippedRows) -> list[LabelledCrop]:
        """What the table names, in an order that does not change; labels are among the task's."""


def data_part(each: Task) -> DataPart:
    """How a task's sets are read."""
    return cast("DataPart", each.part("data"))


def crops_of(entry: DatasetSettings, data: Path, skipped: SkippedRows) -> list[LabelledCrop]:
    """The faces of a set, in the order of its files.

    Raises:
        DataError: a file or folder is missing or of another kind.
    """
    if entry.identity is not None:
        points = points_of(entry.identity, data)
        listed = labelled_pictures(entry.identity, data, without=NOBODY)
        return [LabelledCrop(file, label, points.get(file)) for label, file in listed]
    return data_part(task(entry.kind)).rows(entry.source, data, skipped)
