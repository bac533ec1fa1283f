"""Named sets of the standard folders that models are compared on, beside the standard validation data."""

from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

from engines.data.names import coco_name
from engines.data.sources import Coco, Folders
from engines.spec import ModelSpec, TaskName
from engines.training.settings import DatasetSettings

VOC_AND_FRUIT: Final = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "boat", "bird", "cat", "dog", "horse",
    "sheep", "cow", "bottle", "chair", "couch", "potted plant", "dining table", "tv", "banana", "apple", "orange",
)  # fmt: skip
ON_THE_ROAD: Final = ("person", "car", "motorcycle", "bus")

SetName = Literal["cameras", "coco", "celebrities", "places"]
NAMED_SETS: Final[dict[SetName, DatasetSettings]] = {
    "cameras": DatasetSettings(
        name="cameras",
        images="detection_cameras/images/val",
        objects=Coco(file="detection_cameras/annotations/instances_val.json", classes=ON_THE_ROAD),
    ),
    "coco": DatasetSettings(
        name="coco",
        images="detection_coco/images/val",
        objects=Coco(file="detection_coco/annotations/instances_val.json", classes=VOC_AND_FRUIT),
    ),
    "celebrities": DatasetSettings(
        name="celebrities",
        identity=Folders(
            folders=("face_recognition_celeba/val",), pairs="face_recognition_celeba/pairs_celeba_val.txt"
        ),
    ),
    "places": DatasetSettings(name="places", scene=Folders(folders=("places/val",))),
}  # see docs/data.md


def sets_in(data: Path, model: ModelSpec, tasks: Collection[TaskName]) -> dict[SetName, DatasetSettings]:
    """The named sets that a folder has, of these tasks, and whose labels the model knows."""
    found = {}
    for name, entry in NAMED_SETS.items():
        told = [task for task in entry.labelled if task in tasks]
        if told and all((data / folder).is_dir() for folder in _folders(entry)) and _known(entry, data, model):
            found[name] = entry
    return found


def _folders(entry: DatasetSettings) -> list[str]:
    listed = [folder for source in (entry.scene, entry.identity) if source for folder in source.folders]
    return [*listed, *([entry.images] if entry.images else [])]


def _known(entry: DatasetSettings, data: Path, model: ModelSpec) -> bool:
    """Whether the model knows everything that a set may show."""
    if entry.scene is not None:
        shown = {path.name for folder in entry.scene.folders for path in (data / folder).iterdir() if path.is_dir()}
        return shown <= set(model.scenes)
    if isinstance(entry.objects, Coco) and entry.objects.classes is not None:
        return set(entry.objects.classes) <= {coco_name(label) for label in model.objects}
    return True
