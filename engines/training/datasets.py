"""Training sets held in memory as uint8 canvases with padded labels.

Every picture is resized once to fit a square canvas; augmentation then reads the canvas, batched, on whatever device
holds it. A set says which tasks it labels; whatever it does not label is absent here, never background.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.arrays import Double, Ints
from engines.data.coco import CocoBox, CocoSet
from engines.data.crops import LabelledCrop
from engines.data.folders import read_embeddings
from engines.data.reading import SkippedRows, spread
from engines.data.sources import FaceSource, labelled_pictures, read_boxes
from engines.errors import DataError
from engines.spec import EntryName, TaskName
from engines.tasks import task
from engines.training.canvases import halved, load_faces, load_pictures
from engines.training.crops import crops_of
from engines.training.partial_labels import boxes_by_file, merged
from engines.training.settings import DatasetSettings, Kind, entry_of

Labels = TypeVar("Labels", "BoxLabels", "PictureSet")


@dataclass(frozen=True, slots=True)
class BoxLabels:
    """Boxes of one task in a set, padded to B per picture. Canvas pixels."""

    boxes: Tensor  # (N, B, 4) float32 xyxy
    classes: Tensor  # (N, B) int64, -1 for padding
    ignore: Tensor  # (N, B) bool: neither object nor background
    landmarks: Tensor | None = None  # (N, B, 5, 2)
    has_landmarks: Tensor | None = None  # (N, B) bool
    only_near: bool = False  # background is known only near the boxes (other people are unlabelled)
    known: Tensor | None = None  # (N, C) bool: the classes that are labelled in each picture; None: all of them
    scores: Tensor | None = None  # (N, B) in [0, 1] of whoever drew the boxes; None: 1

    def to(self, device: torch.device) -> "BoxLabels":
        """The same labels on a device."""
        return _moved(self, device)


@dataclass(frozen=True, slots=True)
class PictureSet:
    """One training set."""

    name: str
    kind: Kind
    pictures: Tensor  # (N, S, S, 3) uint8, the picture in the top-left corner, grey around it
    extents: Tensor  # (N, 2) float32 width, height of the picture on its canvas
    objects: BoxLabels | None = None
    faces: BoxLabels | None = None
    labels: Tensor | None = None  # (N,) int64: scene or identity
    half: Tensor | None = None  # (N, S/2, S/2, 3) uint8, the pictures at half the size; None where none is needed
    scene_targets: Tensor | None = None  # (N, S) scene probabilities that a teacher gives
    embeddings: Tensor | None = None  # (N, D) unit embeddings that a teacher gives
    classes: int = 0  # how many different labels the run has
    choices: Tensor | None = None  # (K,) int64: the labels that the set tells apart; None: all of the run's
    files: tuple[Path, ...] = ()  # N
    groups: Ints | None = None  # (N,): pictures of one number show the same thing
    broken: tuple[str, ...] = ()  # what could not be read, one sentence each

    def __len__(self) -> int:
        return self.pictures.shape[0]

    @property
    def entry(self) -> EntryName:
        """Which entry sees the pictures."""
        return entry_of(self.kind)

    @property
    def tasks(self) -> Iterator[TaskName]:
        """What the set labels."""
        if self.objects is not None:
            yield "objects"
        if self.faces is not None:
            yield "faces"
        if self.labels is not None:
            yield self.kind

    def to(self, device: torch.device) -> "PictureSet":
        """The same set on a device."""
        return _moved(self, device)


def _moved(held: Labels, device: torch.device) -> Labels:
    """A copy whose tensors are on a device."""
    values: dict[str, Any] = {field.name: getattr(held, field.name) for field in fields(held)}
    moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensor | BoxLabels)}
    return replace(held, **moved)


@dataclass(frozen=True, slots=True)
class LoadedDatasets:
    """All sets of a run, and what their labels are called."""

    sets: list[PictureSet]
    objects: tuple[str, ...]  # in the order in which the datasets name them
    scenes: tuple[str, ...]  # sorted
    identities: tuple[str, ...]  # sorted
    refusals: tuple[str, ...] = ()  # why training would refuse the data, where it was read all the same

    def labels_of(self, kind: Kind) -> tuple[str, ...]:
        """What the labels of sets of a kind are called."""
        own = {"boxes": self.objects, "scene": self.scenes, "identity": self.identities}
        return own[kind] if kind in own else task(kind).labels


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is known of a set before its pictures are decoded."""

    entry: DatasetSettings
    skipped: SkippedRows
    files: list[Path]
    objects: CocoSet | None = None
    silver: CocoSet | None = None
    faces: CocoSet | None = None
    labels: tuple[str, ...] = ()  # of each file, where one says what it shows
    crops: tuple[LabelledCrop, ...] = ()  # where the pictures are faces: one for each file


def load_sets(
    settings: Sequence[DatasetSettings],
    data: Path,
    *,
    objects: tuple[str, ...] = (),
    limit: int | None = None,
    strict: bool = True,
    cache: Path | None = None,
) -> LoadedDatasets:
    """Read every set of a configuration into memory.

    Args:
        settings: the sets.
        data: folder that their paths are relative to.
        objects: the classes to keep, in their order; (): all that the sets label.
        limit: how many pictures to take of each set, from its whole length; None for all.
        strict: refuse a set of which too many rows are broken; otherwise say so in the result.
        cache: folder for files that the decoded pictures are mapped from, so that the system may keep them on disk
            where memory is short; None: in memory.

    Raises:
        DataError: a file is missing or of another kind, there are no pictures, or too many rows are broken.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder")
    read = [_read(entry, data, SkippedRows(strict=strict)) for entry in settings]
    objects = objects or tuple(
        dict.fromkeys(
            name
            for rows in read
            for each in (rows.objects, rows.silver)
            if each is not None
            for name in each.categories.values()
        )
    )
    scenes, identities = (
        tuple(sorted({name for rows in read if rows.entry.kind == kind for name in rows.labels}))
        for kind in ("scene", "identity")
    )
    loaded = LoadedDatasets([], objects, scenes, identities)
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
    loaded.sets.extend(
        _decode_set(_limited(rows, limit), loaded.labels_of(rows.entry.kind), data, cache) for rows in read
    )
    return replace(loaded, refusals=tuple(sentence for rows in read for sentence in rows.skipped.refusals))


def _read(entry: DatasetSettings, data: Path, skipped: SkippedRows) -> _Rows:
    """The labels and the files of a set."""
    if entry.entry == "face":
        crops = tuple(crops_of(entry, data, skipped))
        rows = _Rows(
            entry, skipped, [each.file for each in crops], labels=tuple(each.label for each in crops), crops=crops
        )
    elif entry.scene is not None:
        found = list(labelled_pictures(entry.scene, data))
        rows = _Rows(entry, skipped, [file for _, file in found], labels=tuple(label for label, _ in found))
    else:
        sources = (entry.objects, entry.objects_silver, entry.faces)
        objects, silver, faces = (_boxes(source, entry, data, skipped) for source in sources)
        listed = [file for each in (objects, faces) if each for file in each.pictures.values()]
        rows = _Rows(entry, skipped, list(dict.fromkeys(listed)), objects, silver, faces)
    if not rows.files:
        raise DataError(f"training set {entry.name}: there are no pictures")
    return rows


def _limited(rows: _Rows, limit: int | None) -> _Rows:
    chosen = spread(range(len(rows.files)), limit)
    labels = tuple(rows.labels[row] for row in chosen) if rows.labels else ()
    crops = tuple(rows.crops[row] for row in chosen) if rows.crops else ()
    return replace(rows, files=[rows.files[row] for row in chosen], labels=labels, crops=crops)


def _boxes(source: FaceSource | None, entry: DatasetSettings, data: Path, skipped: SkippedRows) -> CocoSet | None:
    return None if source is None or entry.images is None else read_boxes(source, data, entry.images, skipped)


def _decode_set(rows: _Rows, names: tuple[str, ...], data: Path, cache: Path | None) -> PictureSet:
    """Decode the pictures of a set and number its labels by their place in ``names``."""
    entry = rows.entry
    canvases = (
        load_faces(rows.crops, entry.name, rows.skipped)
        if entry.entry == "face"
        else load_pictures(rows.files, entry.canvas, entry.name, rows.skipped, cache)
    )
    files = [rows.files[row] for row in canvases.kept]
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers[rows.labels[row]] for row in canvases.kept] if rows.labels else None
    own = sorted(set(labels or ()))
    return PictureSet(
        entry.name,
        entry.kind,
        canvases.pictures,
        canvases.extents,
        objects=_object_labels(rows, files, canvases.scales, names),
        faces=_face_labels(rows, files, canvases.scales),
        labels=None if labels is None else torch.tensor(labels),
        half=None if entry.entry == "face" else halved(canvases.pictures, cache),
        embeddings=_teacher_embeddings(entry, files, data),
        classes=len(names),
        choices=torch.tensor(own) if own and len(own) < len(names) else None,
        files=tuple(files),
        groups=_groups(entry, files, labels),
        broken=tuple(rows.skipped.rows),
    )


def _groups(entry: DatasetSettings, files: Sequence[Path], labels: list[int] | None) -> Ints:
    """Which pictures show the same thing: one person, or what the names have in common; else each its own."""
    if entry.kind == "identity" and labels is not None:
        return np.array(labels, np.int64)
    if entry.group is None:
        # Several faces may be of one picture.
        places = {file: number for number, file in enumerate(dict.fromkeys(files))}
        return np.array([places[file] for file in files], np.int64)
    matches = [re.search(entry.group, file.name) for file in files]
    if not any(matches):
        raise DataError(f"training set {entry.name}: group {entry.group!r} is in no file name, as in {files[0].name}")
    keys = [
        file.name if found is None else found.groups() or found[0] for file, found in zip(files, matches, strict=True)
    ]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def _object_labels(rows: _Rows, files: Sequence[Path], scales: Double, names: tuple[str, ...]) -> BoxLabels | None:
    source, coco = rows.entry.objects, rows.objects
    if source is None or coco is None:
        return None
    found, known = merged(coco, rows.silver, files, names)
    boxes, classes, ignore, _, _, scores = _padded(found, scales, None)
    return BoxLabels(
        boxes,
        classes,
        ignore,
        only_near=source.only_near,
        known=None if known.all() else known,
        scores=None if bool((scores == 1).all()) else scores,
    )


def _face_labels(rows: _Rows, files: Sequence[Path], scales: Double) -> BoxLabels | None:
    source, coco = rows.entry.faces, rows.faces
    if source is None or coco is None:
        return None
    boxes, classes, ignore, landmarks, present, _ = _padded(boxes_by_file(coco, files), scales, 0)
    return BoxLabels(boxes, classes, ignore, landmarks, present, source.only_near)


def _teacher_embeddings(entry: DatasetSettings, files: Sequence[Path], data: Path) -> Tensor | None:
    """A teacher's embeddings (N, D) of the set's faces, less their mean, at unit length.

    Without the mean, since what all faces have in common tells nobody apart.
    """
    source = entry.identity
    if source is None or source.embeddings is None:
        return None
    known = read_embeddings(data / source.embeddings, data / source.folders[0])
    missing = next((file for file in files if file not in known), None)
    if missing is not None:
        raise DataError(f"{data / source.embeddings}: has no embedding of {missing}")
    found = torch.from_numpy(np.stack([known[file] for file in files]))
    return F.normalize(found - found.mean(0), dim=1)


def _padded(
    rows: Sequence[list[CocoBox]], scales: Double, only: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Boxes, classes, ignore, landmarks, which have them, and scores, padded to the fullest picture. Canvas pixels.

    Classes are the boxes' ``category_id``, or ``only`` where that is the one class there is.
    """
    count, most = len(rows), max(1, max(len(row) for row in rows))
    boxes, points = np.zeros((count, most, 4), np.float32), np.zeros((count, most, 5, 2), np.float32)
    classes = np.full((count, most), -1, np.int64)
    ignore, present = np.zeros((count, most), np.bool_), np.zeros((count, most), np.bool_)
    scores = np.ones((count, most), np.float32)
    for i, row in enumerate(rows):
        for j, box in enumerate(row):
            boxes[i, j] = np.array(box.xyxy) * scales[i]
            classes[i, j] = box.category_id if only is None else only
            ignore[i, j] = box.ignored
            scores[i, j] = box.score
            landmarks = box.points5
            if landmarks is not None:
                points[i, j] = np.array(landmarks) * scales[i]
                present[i, j] = True
    padded = (boxes, classes, ignore, points, present, scores)
    first, second, third, fourth, fifth, sixth = (torch.from_numpy(array) for array in padded)
    return first, second, third, fourth, fifth, sixth
