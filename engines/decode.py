"""Raw outputs of the frame entry -> detections in source pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np

from engines.arrays import Array, Float
from engines.boxes import Letterbox, Letterboxes
from engines.nms import Suppression
from engines.spec import Thresholds
from engines.tasks.faces import decode as faces
from engines.tasks.faces.decode import NO_FACES as NO_FACES
from engines.tasks.faces.decode import Faces as Faces
from engines.tasks.objects import decode as objects
from engines.tasks.objects.decode import NO_OBJECTS as NO_OBJECTS
from engines.tasks.objects.decode import Objects as Objects


@dataclass(frozen=True, slots=True)
class Detections:
    """All that the frame entry says of one frame."""

    objects: Objects
    faces: Faces
    scene: Float  # (C,) probabilities over ModelSpec.scenes


NO_SCENE: Float = np.zeros(0, np.float32)


def decode(
    outputs: Mapping[str, Array],
    boxes: Sequence[Letterbox],
    thresholds: Thresholds,
    suppression: Suppression = "class-aware",
) -> list[Detections]:
    """Turn the frame entry's outputs of a batch of pictures into the detections of each.

    Scores below their threshold go, then duplicates; what is left is mapped to source pixels and clipped to the
    picture, and boxes that have no area there are removed. Of a task that the model does not have, nothing is seen: no
    rows, no scenes.

    Args:
        outputs: batch first: ``object_boxes`` (B, K, 4) xyxy input pixels, ``object_scores`` (B, K),
            ``object_labels`` (B, K) whole numbers, ``face_boxes`` (B, M, 4), ``face_scores`` (B, M),
            ``face_landmarks`` (B, M, 5, 2) input pixels, ``scene`` (B, C) probabilities. Of each picture, the 300 best
            rows are looked at.
        boxes: (B,) how each picture was letterboxed.
        thresholds: score and overlap thresholds; evaluation passes lower scores than the pipeline.
        suppression: how objects suppress each other; faces are of one class, and greedily suppressed.
    """
    if not len(boxes):
        return []
    # All pictures at once: a NumPy call costs about as much for eight of them as for one.
    places = Letterboxes.of(tuple(boxes))
    found = (
        objects.decode(outputs, places, thresholds, suppression) if "object_scores" in outputs else repeat(NO_OBJECTS)
    )
    seen = faces.decode(outputs, places, thresholds) if "face_scores" in outputs else repeat(NO_FACES)
    scenes = outputs["scene"].astype(np.float32) if "scene" in outputs else repeat(NO_SCENE)
    return [Detections(*each) for each in islice(zip(found, seen, scenes, strict=False), places.count)]
