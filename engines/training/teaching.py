"""Distillation: models that know a task label what the data lacks, and say more than its labels do.

A teacher sees every picture once, as it is, through its exported entries and the pipeline's own decoding:

* boxes where a set has none of a task: sure ones become labels, unsure ones are ignored, the rest is background;
* scene probabilities, which the student's are drawn to (Hinton et al. 2015), also on pictures without a scene label;
* embeddings of faces, which the student's are drawn to.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from engines.arrays import Array
from engines.boxes import letterbox
from engines.decode import Detections, decode
from engines.engine import Engine, open_engine
from engines.errors import DataError
from engines.pictures import letterbox_rgb
from engines.spec import Model, Thresholds
from engines.training.datasets import BoxLabels, LoadedDatasets, PictureSet

BATCH = 16
UNSURE = 0.5  # of the teacher's score threshold: below it, its boxes are background


def teach(
    loaded: LoadedDatasets, teachers: Sequence[Model], told: Callable[[str], None] = lambda _: None
) -> LoadedDatasets:
    """The same sets with what the teachers know besides.

    Args:
        loaded: the sets.
        teachers: model folders; where two know the same task, the first one is asked.
        told: called with a line for each set and teacher.

    Raises:
        DataError: a teacher's classes are not the data's.
    """
    sets = loaded.sets
    for teacher in teachers:
        _check(teacher, loaded)
        if "frame" in teacher.spec.network.entries:
            with open_engine(teacher, "frame", precision="f32") as engine:
                sets = [_teach_frames(each, teacher, engine, loaded, told) for each in sets]
        if "identity" in teacher.spec.network.tasks:
            with open_engine(teacher, "face", precision="f32") as engine:
                sets = [_teach_faces(each, teacher, engine, told) for each in sets]
    return replace(loaded, sets=sets)


def _check(teacher: Model, loaded: LoadedDatasets) -> None:
    for kind, theirs, ours in (
        ("objects", teacher.spec.objects, loaded.objects),
        ("scenes", teacher.spec.scenes, loaded.scenes),
    ):
        strange = sorted(set(theirs) - set(ours))
        if strange:
            raise DataError(f"--teacher {teacher.path}: knows {kind} that the data does not: {', '.join(strange)}")


def _teach_frames(
    data: PictureSet, teacher: Model, engine: Engine, loaded: LoadedDatasets, told: Callable[[str], None]
) -> PictureSet:
    if data.entry == "face":
        return data
    tasks = teacher.spec.network.tasks
    wants_objects = data.kind == "boxes" and data.objects is None and "objects" in tasks
    wants_faces = data.kind == "boxes" and data.faces is None and "faces" in tasks
    wants_scene = data.scene_targets is None and "scene" in tasks
    if not (wants_objects or wants_faces or wants_scene):
        return data
    seen = list(_see(data, engine, teacher.spec.thresholds))
    lines = []
    if wants_objects:
        data = replace(data, objects=_object_labels(seen, teacher, loaded.objects))
        lines.append(f"{sum(len(each.objects.scores) for each in seen)} objects")
    if wants_faces:
        data = replace(data, faces=_face_labels(seen, teacher))
        lines.append(f"{sum(len(each.faces.scores) for each in seen)} faces")
    if wants_scene:
        data = replace(data, scene_targets=_scene_targets(seen, teacher, loaded.scenes))
        lines.append("scenes")
    told(f"{data.name}: {teacher.spec.name} says {', '.join(lines)}")
    return data


def _see(data: PictureSet, engine: Engine, thresholds: Thresholds) -> Iterator[Detections]:
    """What the teacher sees on each canvas, in canvas pixels, unsure boxes too."""
    size = (engine.spec.width, engine.spec.height)
    low = thresholds.at(object_score=UNSURE * thresholds.object_score, face_score=UNSURE * thresholds.face_score)
    for rows in torch.split(torch.arange(len(data)), BATCH):
        extents = data.extents[rows].int().tolist()
        pictures = [
            canvas[:height, :width].numpy()
            for canvas, (width, height) in zip(data.pictures[rows], extents, strict=True)
        ]
        boxes = [letterbox((width, height), size) for width, height in extents]
        inputs = [letterbox_rgb(picture, box) for picture, box in zip(pictures, boxes, strict=True)]
        yield from decode(engine.infer(np.stack(inputs)), boxes, low)


def _object_labels(seen: Sequence[Detections], teacher: Model, names: tuple[str, ...]) -> BoxLabels:
    numbers = torch.tensor([names.index(name) for name in teacher.spec.objects])
    known = torch.zeros(len(names), dtype=torch.bool)
    known[numbers] = True
    boxes = _padded([each.objects.boxes for each in seen], 0.0)
    labels = _padded([each.objects.labels for each in seen], -1).long()
    scores = _padded([each.objects.scores for each in seen], 0.0)
    classes = torch.where(labels >= 0, numbers[labels.clamp(min=0)], labels)
    unsure = scores < teacher.spec.thresholds.object_score
    return BoxLabels(
        boxes, classes, unsure & (labels >= 0), known=None if known.all() else known.expand(len(boxes), -1)
    )


def _face_labels(seen: Sequence[Detections], teacher: Model) -> BoxLabels:
    scores = _padded([each.faces.scores for each in seen], -1.0)
    there = scores >= 0
    return BoxLabels(
        _padded([each.faces.boxes for each in seen], 0.0),
        torch.where(there, 0, -1),
        there & (scores < teacher.spec.thresholds.face_score),
        _padded([each.faces.landmarks for each in seen], 0.0),
        there,
    )


def _scene_targets(seen: Sequence[Detections], teacher: Model, names: tuple[str, ...]) -> Tensor:
    targets = torch.zeros(len(seen), len(names))
    targets[:, [names.index(name) for name in teacher.spec.scenes]] = torch.from_numpy(
        np.stack([each.scene for each in seen])
    )
    return targets


def _teach_faces(data: PictureSet, teacher: Model, engine: Engine, told: Callable[[str], None]) -> PictureSet:
    if data.kind != "identity" or data.embeddings is not None:
        return data
    found = [engine.infer(rows.numpy())["embedding"].astype(np.float32) for rows in torch.split(data.pictures, BATCH)]
    told(f"{data.name}: {teacher.spec.name} says embeddings")
    return replace(data, embeddings=torch.from_numpy(np.concatenate(found)))


def _padded(rows: Sequence[Array], filling: float) -> Tensor:
    """Arrays (n_i, ...) -> one tensor (N, max(n_i), ...)."""
    most = max(1, max(len(row) for row in rows))
    padded = np.full((len(rows), most, *rows[0].shape[1:]), filling, rows[0].dtype)
    for out, row in zip(padded, rows, strict=True):
        out[: len(row)] = row
    return torch.from_numpy(padded)
