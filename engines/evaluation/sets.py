"""Named sets of the standard folders that models are compared on, beside the standard validation data."""

from typing import Final, Literal

from engines.data.sources import Coco, Folders
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
