"""Messages as what other programs take: ``supervision.Detections`` and COCO JSON."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from engines.data.names import COCO_NAMES
from engines.errors import ConfigError
from pipeline.wire.messages import FrameMessage

if TYPE_CHECKING:
    from supervision import Detections


def to_detections(message: FrameMessage, labels: Sequence[str] = COCO_NAMES) -> "Detections":
    """Return the objects of a frame as ``supervision.Detections``, which that package draws, counts and follows.

    ``xyxy`` is in pixels of the source picture, ``tracker_id`` is the track, ``class_id`` the position of the label in
    ``labels``, and ``data["class_name"]`` the label.

    Raises:
        ConfigError: supervision is not installed, or a label is none of ``labels``.
    """
    try:
        import numpy as np
        from supervision import Detections
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the Python package {error.name} is missing, which the extra 'supervision' brings: "
            "pip install 'trunkline[supervision]'"
        ) from error
    found = message.objects
    return Detections(
        xyxy=np.array([each.box for each in found], np.float32).reshape(-1, 4),
        confidence=np.array([each.score for each in found], np.float32),
        class_id=np.array([_place(each.label, labels) for each in found], np.int64),
        tracker_id=np.array([each.track for each in found], np.int64),
        data={"class_name": np.array([each.label for each in found], str)},
    )


def to_coco(messages: Iterable[FrameMessage], labels: Sequence[str] = COCO_NAMES) -> dict[str, Any]:
    """Return the objects of frames as a COCO data set of plain values, ready for ``json.dump``.

    An image is ``<stream>/<seq>.jpg``; a box is x, y, width, height in pixels; an annotation has its ``score`` and
    ``track_id`` besides. Categories are numbered from 1 in the order of ``labels``.

    Raises:
        ConfigError: a label is none of ``labels``.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for message in messages:
        width, height = message.size
        images.append(
            {
                "id": len(images) + 1,
                "file_name": f"{message.stream}/{message.seq}.jpg",
                "width": width,
                "height": height,
                "date_captured": message.captured_at,
            }
        )
        for each in message.objects:
            x0, y0, x1, y1 = each.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": _place(each.label, labels) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "score": each.score,
                    "track_id": each.track,
                }
            )
    categories = [{"id": place + 1, "name": label} for place, label in enumerate(labels)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _place(label: str, labels: Sequence[str]) -> int:
    try:
        return labels.index(label)
    except ValueError:
        raise ConfigError(f"labels has no {label!r}, but must have every label of the messages") from None
