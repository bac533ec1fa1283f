"""Training sets held in memory as uint8 canvases with padded labels.

Every picture is resized once to fit a square canvas; augmentation then reads the canvas, batched, on whatever device
holds it. A set says which tasks it labels; whatever it does not label is absent here, never background.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.alignment import SIZE as FACE_SIZE
from engines.alignment import align
from engines.data.coco import CocoBox, CocoSet
from engines.data.folders import NOBODY
from engines.data.reading import Skipped, spread
from engines.data.sources import FaceSource, labelled_pictures, points_of, read_boxes
from engines.errors import DataError
from engines.pictures import PADDING_GREY, read_rgb, resize
from engines.training.settings import DatasetSettings, Kind

READERS = 4  # threads; decoding releases the interpreter lock
UNKNOWN: tuple[float, float, float, float] = (0.0, 0.0, 1e6, 1e6)  # x, y, width, height of more than any picture


@dataclass(frozen=True, slots=True)
class BoxLabels:
    """Boxes of one task in a set, padded to B per picture. Canvas pixels."""

    boxes: Tensor  # (N, B, 4) float32 xyxy
    classes: Tensor  # (N, B) int64, -1 for padding
    ignore: Tensor  # (N, B) bool: neither object nor background
    landmarks: Tensor | None = None  # (N, B, 5, 2)
    has_landmarks: Tensor | None = None  # (N, B) bool
    only_near: bool = False  # background is known only near the boxes (other people are unlabelled)
    known: Tensor | None = None  # (C,) bool: the classes that the set labels; None: all of them

    def to(self, device: torch.device) -> "BoxLabels":
        """The same labels on a device."""

        def moved(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device)

        return replace(
            self,
            boxes=self.boxes.to(device),
            classes=self.classes.to(device),
            ignore=self.ignore.to(device),
            landmarks=moved(self.landmarks),
            has_landmarks=moved(self.has_landmarks),
            known=moved(self.known),
        )


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
    files: tuple[Path, ...] = ()  # N
    groups: npt.NDArray[np.int64] | None = None  # (N,): pictures of one number show the same thing
    broken: tuple[str, ...] = ()  # what could not be read, one sentence each

    def __len__(self) -> int:
        return self.pictures.shape[0]

    def to(self, device: torch.device) -> "PictureSet":
        """The same set on a device."""
        return replace(
            self,
            pictures=self.pictures.to(device),
            half=None if self.half is None else self.half.to(device),
            extents=self.extents.to(device),
            objects=None if self.objects is None else self.objects.to(device),
            faces=None if self.faces is None else self.faces.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            scene_targets=None if self.scene_targets is None else self.scene_targets.to(device),
            embeddings=None if self.embeddings is None else self.embeddings.to(device),
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """All sets of a run, and what their labels are called."""

    sets: list[PictureSet]
    objects: tuple[str, ...]  # in the order in which the datasets name them
    scenes: tuple[str, ...]  # sorted
    identities: tuple[str, ...]  # sorted
    refusals: tuple[str, ...] = ()  # why training would refuse the data, where it was read all the same

    def labels_of(self, kind: Kind) -> tuple[str, ...]:
        """What the labels of sets of a kind are called."""
        return {"boxes": self.objects, "scene": self.scenes, "identity": self.identities}[kind]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is known of a set before its pictures are decoded."""

    entry: DatasetSettings
    skipped: Skipped
    files: list[Path]
    objects: CocoSet | None = None
    faces: CocoSet | None = None
    labels: tuple[str, ...] = ()  # of each file, where folders are the labels


@dataclass(frozen=True, slots=True)
class _Canvases:
    pictures: Tensor
    extents: Tensor
    scales: npt.NDArray[np.float64]
    kept: list[int]


def load_sets(
    settings: Sequence[DatasetSettings], data: Path, *, limit: int | None = None, strict: bool = True
) -> Loaded:
    """Read every set of a configuration into memory.

    Args:
        settings: the sets.
        data: folder that their paths are relative to.
        limit: how many pictures to take of each set, from its whole length; None for all.
        strict: refuse a set of which too many rows are broken; otherwise say so in the result.

    Raises:
        DataError: a file is missing or of another kind, there are no pictures, or too many rows are broken.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder")
    read = [_read(entry, data, Skipped(strict=strict)) for entry in settings]
    objects = tuple(dict.fromkeys(name for rows in read if rows.objects for name in rows.objects.categories.values()))
    scenes, identities = (
        tuple(sorted({name for rows in read if rows.entry.kind == kind for name in rows.labels}))
        for kind in ("scene", "identity")
    )
    loaded = Loaded([], objects, scenes, identities)
    loaded.sets.extend(_decode_set(_limited(rows, limit), loaded.labels_of(rows.entry.kind), data) for rows in read)
    return replace(loaded, refusals=tuple(sentence for rows in read for sentence in rows.skipped.refusals))


def _read(entry: DatasetSettings, data: Path, skipped: Skipped) -> _Rows:
    """The labels and the files of a set."""
    folders = entry.scene or entry.identity
    if folders is not None:
        without = NOBODY if entry.kind == "identity" else None
        found = list(labelled_pictures(folders, data, without=without))
        rows = _Rows(entry, skipped, [file for _, file in found], labels=tuple(label for label, _ in found))
    else:
        objects, faces = (_boxes(source, entry, data, skipped) for source in (entry.objects, entry.faces))
        listed = [file for each in (objects, faces) if each for file in each.pictures.values()]
        rows = _Rows(entry, skipped, list(dict.fromkeys(listed)), objects, faces)
    if not rows.files:
        raise DataError(f"training set {entry.name}: there are no pictures")
    return rows


def _limited(rows: _Rows, limit: int | None) -> _Rows:
    chosen = spread(range(len(rows.files)), limit)
    labels = tuple(rows.labels[row] for row in chosen) if rows.labels else ()
    return replace(rows, files=[rows.files[row] for row in chosen], labels=labels)


def _boxes(source: FaceSource | None, entry: DatasetSettings, data: Path, skipped: Skipped) -> CocoSet | None:
    return None if source is None or entry.images is None else read_boxes(source, data, entry.images, skipped)


def _decode_set(rows: _Rows, names: tuple[str, ...], data: Path) -> PictureSet:
    """Decode the pictures of a set and number its labels by their place in ``names``."""
    entry = rows.entry
    canvases = _load_faces(rows, data) if entry.kind == "identity" else _load(rows.files, entry, rows.skipped)
    files = [rows.files[row] for row in canvases.kept]
    labels = [names.index(rows.labels[row]) for row in canvases.kept] if rows.labels else None
    return PictureSet(
        entry.name,
        entry.kind,
        canvases.pictures,
        canvases.extents,
        objects=_object_labels(rows, files, canvases.scales, names),
        faces=_face_labels(rows, files, canvases.scales),
        labels=None if labels is None else torch.tensor(labels),
        half=None if entry.kind == "identity" else _halved(canvases.pictures),
        classes=len(names),
        files=tuple(files),
        groups=_groups(entry, files, labels),
        broken=tuple(rows.skipped.rows),
    )


def _decode(one: Callable[[int], None], files: Sequence[Path], name: str, skipped: Skipped) -> list[int]:
    """Call ``one`` with every row, side by side; the rows for which it did not raise DataError."""

    def outcome(row: int) -> str | None:
        try:
            one(row)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(READERS) as pool:
        outcomes = list(pool.map(outcome, range(len(files))))
    for reason in outcomes:
        if reason is not None:
            skipped.add(f"training set {name}, pictures", len(files), reason)
    kept = [row for row, reason in enumerate(outcomes) if reason is None]
    if not kept:
        raise DataError(f"training set {name}: none of its {len(files)} pictures can be read")
    return kept


def _load(files: Sequence[Path], entry: DatasetSettings, skipped: Skipped) -> _Canvases:
    """Decode all files onto canvases."""
    side = entry.canvas
    pictures = torch.full((len(files), side, side, 3), PADDING_GREY, dtype=torch.uint8)
    extents = torch.zeros(len(files), 2)
    scales = np.zeros(len(files))

    def one(row: int) -> None:
        pixels = read_rgb(files[row])
        height, width = pixels.shape[:2]
        scales[row] = scale = side / max(height, width)
        fitted = resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
        pictures[row, : fitted.shape[0], : fitted.shape[1]] = torch.from_numpy(fitted)
        extents[row] = torch.tensor([fitted.shape[1], fitted.shape[0]])

    kept = _decode(one, files, entry.name, skipped)
    if len(kept) < len(files):
        pictures, extents, scales = pictures[kept], extents[kept], scales[kept]
    return _Canvases(pictures, extents, scales, kept)


def _load_faces(rows: _Rows, data: Path) -> _Canvases:
    """Face crops, aligned where five points are known, else as they are."""
    assert rows.entry.identity is not None
    known = points_of(rows.entry.identity, data)
    pictures = torch.zeros(len(rows.files), FACE_SIZE, FACE_SIZE, 3, dtype=torch.uint8)

    def one(row: int) -> None:
        file = rows.files[row]
        pixels, points = read_rgb(file), known.get(file)
        if points is None:
            face = resize(pixels, (FACE_SIZE, FACE_SIZE))
        else:
            try:
                face = align(pixels, np.array(points, np.float32))
            except ValueError as error:
                raise DataError(f"picture {file}: {error}") from error
        pictures[row] = torch.from_numpy(face)

    kept = _decode(one, rows.files, rows.entry.name, rows.skipped)
    if len(kept) < len(rows.files):
        pictures = pictures[kept]
    return _Canvases(pictures, torch.full((len(kept), 2), float(FACE_SIZE)), np.ones(len(kept)), kept)


def _halved(pictures: Tensor) -> Tensor:
    """Canvases (N, S, S, 3), S even, at half the size."""
    half = torch.empty(len(pictures), pictures.shape[1] // 2, pictures.shape[2] // 2, 3, dtype=torch.uint8)
    for rows, out in zip(torch.split(pictures, 64), torch.split(half, 64), strict=True):
        out.copy_(F.avg_pool2d(rows.permute(0, 3, 1, 2).float(), 2).round_().permute(0, 2, 3, 1))
    return half


def _groups(entry: DatasetSettings, files: Sequence[Path], labels: list[int] | None) -> npt.NDArray[np.int64]:
    """Which pictures show the same thing: one person, or what the names have in common; else each its own."""
    if entry.kind == "identity" and labels is not None:
        return np.array(labels, np.int64)
    if entry.group is None:
        return np.arange(len(files))
    matches = [re.search(entry.group, file.name) for file in files]
    if not any(matches):
        raise DataError(f"training set {entry.name}: group {entry.group!r} is in no file name, as in {files[0].name}")
    keys = [
        file.name if found is None else found.groups() or found[0] for file, found in zip(files, matches, strict=True)
    ]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def _object_labels(
    rows: _Rows, files: Sequence[Path], scales: npt.NDArray[np.float64], names: tuple[str, ...]
) -> BoxLabels | None:
    source, coco = rows.entry.objects, rows.objects
    if source is None or coco is None:
        return None
    numbers = {category: names.index(name) for category, name in coco.categories.items()}
    padded = _padded(_by_file(coco, files), scales, numbers)
    known = torch.zeros(len(names), dtype=torch.bool)
    known[list(numbers.values())] = True
    return BoxLabels(*padded[:3], only_near=source.only_near, known=None if known.all() else known)


def _face_labels(rows: _Rows, files: Sequence[Path], scales: npt.NDArray[np.float64]) -> BoxLabels | None:
    source, coco = rows.entry.faces, rows.faces
    if source is None or coco is None:
        return None
    padded = _padded(_by_file(coco, files), scales, dict.fromkeys(coco.categories, 0))
    return BoxLabels(*padded, only_near=source.only_near)


def _by_file(coco: CocoSet, files: Iterable[Path]) -> list[list[CocoBox]]:
    """The boxes of each file. One that the source does not list is unlabelled there: an ignored box covers it all."""
    found: dict[Path, list[CocoBox]] = {path: [] for path in coco.pictures.values()}
    for box in coco.boxes:
        found[coco.pictures[box.image_id]].append(box)
    some = next(iter(coco.categories), 0)
    unlabelled = [CocoBox(id=-1, image_id=-1, category_id=some, bbox=UNKNOWN, ignore=1)]
    return [found.get(file, unlabelled) for file in files]


def _padded(
    rows: Sequence[list[CocoBox]], scales: npt.NDArray[np.float64], numbers: Mapping[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Boxes, classes, ignore, landmarks and which have them, padded to the fullest picture. Canvas pixels."""
    count, most = len(rows), max(1, max(len(row) for row in rows))
    boxes, points = np.zeros((count, most, 4), np.float32), np.zeros((count, most, 5, 2), np.float32)
    classes = np.full((count, most), -1, np.int64)
    ignore, present = np.zeros((count, most), np.bool_), np.zeros((count, most), np.bool_)
    for i, row in enumerate(rows):
        for j, box in enumerate(row):
            boxes[i, j] = np.array(box.xyxy) * scales[i]
            classes[i, j] = numbers.get(box.category_id, 0)
            ignore[i, j] = box.ignored
            landmarks = box.points5
            if landmarks is not None:
                points[i, j] = np.array(landmarks) * scales[i]
                present[i, j] = True
    padded = (boxes, classes, ignore, points, present)
    first, second, third, fourth, fifth = (torch.from_numpy(array) for array in padded)
    return first, second, third, fourth, fifth
