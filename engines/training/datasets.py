"""Training sets held in memory as uint8 canvases with padded labels.

Every picture is resized once to fit a square canvas; augmentation then reads the canvas, batched, on whatever device
holds it. A set says which tasks it labels; whatever it does not label is absent here, never background.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engines.alignment import SIZE as FACE_SIZE
from engines.alignment import align
from engines.errors import DataError
from engines.evaluation.data import (
    SCENE_FOLDERS,
    SKIP_SHARE,
    CocoBox,
    CocoSet,
    FivePoints,
    Skipped,
    read_coco,
    read_points,
    scene_of,
)
from engines.pictures import PADDING_GREY, read_rgb, resize

Points = Sequence[tuple[float, float]]  # five


@dataclass(frozen=True, slots=True)
class BoxLabels:
    """Boxes of one task in a set, padded to B per picture. Canvas pixels."""

    boxes: Tensor  # (N, B, 4) float32 xyxy
    classes: Tensor  # (N, B) int64, -1 for padding
    ignore: Tensor  # (N, B) bool: neither object nor background
    landmarks: Tensor | None = None  # (N, B, 5, 2)
    has_landmarks: Tensor | None = None  # (N, B) bool
    only_near: bool = False  # background is known only near the boxes (other people are unlabelled)

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
        )


@dataclass(frozen=True, slots=True)
class PictureSet:
    """One training set."""

    name: str
    pictures: Tensor  # (N, S, S, 3) uint8, the picture in the top-left corner
    extents: Tensor  # (N, 2) float32 width, height of the picture on its canvas
    objects: BoxLabels | None = None
    faces: BoxLabels | None = None
    labels: Tensor | None = None  # (N,) int64: scene or identity
    classes: int = 0  # how many different labels
    broken: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.pictures.shape[0]

    def to(self, device: torch.device) -> "PictureSet":
        """The same set on a device."""
        return replace(
            self,
            pictures=self.pictures.to(device),
            extents=self.extents.to(device),
            objects=None if self.objects is None else self.objects.to(device),
            faces=None if self.faces is None else self.faces.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )


@dataclass(frozen=True, slots=True)
class _Canvases:
    pictures: Tensor
    extents: Tensor
    scales: npt.NDArray[np.float64]
    kept: list[int]
    broken: tuple[str, ...]


def _fit(pixels: npt.NDArray[np.uint8], side: int) -> tuple[npt.NDArray[np.uint8], float]:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return resize(pixels, size), scale


def _decode(one: Callable[[int], str | None], count: int, name: str) -> tuple[list[int], tuple[str, ...]]:
    """Call ``one`` with every row, side by side; the rows that it read, and what it said of the others.

    Raises:
        DataError: there are no rows, or it could not read too many of them.
    """
    with ThreadPoolExecutor(4) as pool:
        outcome = list(pool.map(one, range(count)))
    broken = tuple(text for text in outcome if text is not None)
    if not count:
        raise DataError(f"training set {name}: there are no pictures")
    if len(broken) > SKIP_SHARE * count:
        raise DataError(f"training set {name}: {len(broken)} of {count} pictures cannot be read, first: {broken[0]}")
    return [row for row, text in enumerate(outcome) if text is None], broken


def _load(files: Sequence[Path], side: int, name: str) -> _Canvases:
    """Decode all files onto canvases; a few broken ones are skipped and listed, more are refused."""
    pictures = torch.full((len(files), side, side, 3), PADDING_GREY, dtype=torch.uint8)
    extents = torch.zeros(len(files), 2)
    scales = np.zeros(len(files))

    def one(row: int) -> str | None:
        try:
            fitted, scales[row] = _fit(read_rgb(files[row]), side)
        except DataError as error:
            return str(error)
        height, width = fitted.shape[:2]
        pictures[row, :height, :width] = torch.from_numpy(fitted)
        extents[row] = torch.tensor([width, height])
        return None

    kept, broken = _decode(one, len(files), name)
    if broken:
        pictures, extents, scales = pictures[kept], extents[kept], scales[kept]
    return _Canvases(pictures, extents, scales, kept, broken)


def _load_coco(coco: CocoSet, side: int, name: str) -> tuple[_Canvases, list[int]]:
    """The canvases of a set's readable pictures, and the id of each."""
    canvases, ids = _load(list(coco.pictures.values()), side, name), list(coco.pictures)
    return canvases, [ids[row] for row in canvases.kept]


def _by_image(boxes: Sequence[CocoBox]) -> dict[int, list[CocoBox]]:
    rows: dict[int, list[CocoBox]] = {}
    for box in boxes:
        rows.setdefault(box.image_id, []).append(box)
    return rows


def _box_labels(
    rows: Sequence[list[CocoBox]],
    scales: npt.NDArray[np.float64],
    class_of: Callable[[CocoBox], int],
    points_of: Callable[[CocoBox], Points | None] | None = None,
    *,
    only_near: bool = False,
) -> BoxLabels:
    count, most = len(rows), max(1, max((len(r) for r in rows), default=1))
    boxes = torch.zeros(count, most, 4)
    classes = torch.full((count, most), -1, dtype=torch.int64)
    ignore = torch.zeros(count, most, dtype=torch.bool)
    landmarks = torch.zeros(count, most, 5, 2)
    present = torch.zeros(count, most, dtype=torch.bool)
    for i, row in enumerate(rows):
        for j, box in enumerate(row):
            boxes[i, j] = torch.tensor(box.xyxy) * scales[i]
            classes[i, j] = class_of(box)
            ignore[i, j] = box.ignored
            points = points_of(box) if points_of else None
            if points is not None:
                landmarks[i, j] = torch.tensor(points) * scales[i]
                present[i, j] = True
    if points_of is None:
        return BoxLabels(boxes, classes, ignore, only_near=only_near)
    return BoxLabels(boxes, classes, ignore, landmarks, present, only_near)


def _keypoints(box: CocoBox) -> Points | None:
    xs, ys, visible = box.keypoints[::3], box.keypoints[1::3], box.keypoints[2::3]
    return tuple(zip(xs, ys, strict=True)) if len(visible) == 5 and all(visible) else None


def _category_order(coco: CocoSet) -> dict[int, int]:
    """Category id -> class, in the order of the ids."""
    return {category: row for row, category in enumerate(sorted(coco.categories))}


def object_labels(data: Path) -> tuple[str, ...]:
    """The object classes of ``detection/``, in the order of their category ids."""
    coco = read_coco(data, "detection", "instances_train.json", Skipped(), split="train")
    return tuple(coco.categories[category] for category in _category_order(coco))


def load_detection(data: Path, side: int = 384) -> PictureSet:
    """Objects by hand and machine-made faces on the same pictures."""
    skipped = Skipped()
    coco = read_coco(data, "detection", "instances_train.json", skipped, split="train")
    silver = read_coco(data, "detection", "faces_silver_train.json", skipped, split="train")
    order = _category_order(coco)
    canvases, images = _load_coco(coco, side, "detection")
    by_image, faces_by_image = _by_image(coco.boxes), _by_image(silver.boxes)
    rows = [by_image.get(image, []) for image in images]
    faces = [faces_by_image.get(image, []) for image in images]
    return PictureSet(
        "detection",
        canvases.pictures,
        canvases.extents,
        objects=_box_labels(rows, canvases.scales, lambda box: order[box.category_id]),
        faces=_box_labels(faces, canvases.scales, lambda box: 0, _keypoints),
        classes=len(order),
        broken=(*skipped.rows, *canvases.broken),
    )


class _SilverPoints(msgspec.Struct, frozen=True):
    annotation_id: int
    points5: FivePoints


class _SilverFile(msgspec.Struct, frozen=True):
    landmarks: list[_SilverPoints]


def _silver_points(path: Path) -> dict[int, FivePoints]:
    """Machine-made points by annotation id."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_SilverFile)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: is not a file of face points: {error}") from error
    return {row.annotation_id: row.points5 for row in content.landmarks}


def load_face_detection(data: Path, side: int = 416) -> PictureSet:
    """Faces by hand, some with machine-made points."""
    skipped = Skipped()
    coco = read_coco(data, "face_detection", "instances_train.json", skipped, split="train")
    points = _silver_points(data / "face_detection/annotations/landmarks5_silver_train.json")
    canvases, images = _load_coco(coco, side, "face_detection")
    by_image = _by_image(coco.boxes)
    rows = [by_image.get(image, []) for image in images]
    faces = _box_labels(rows, canvases.scales, lambda box: 0, lambda box: points.get(box.id))
    broken = (*skipped.rows, *canvases.broken)
    return PictureSet("face_detection", canvases.pictures, canvases.extents, faces=faces, broken=broken)


def load_face_landmarks(data: Path, side: int = 224) -> PictureSet:
    """One face a picture, points by hand; other people in it have no boxes."""
    skipped = Skipped()
    coco = read_coco(data, "face_landmarks", "landmarks_train.json", skipped, split="train")
    canvases, images = _load_coco(coco, side, "face_landmarks")
    by_image = _by_image(coco.boxes)
    rows = [by_image.get(image, []) for image in images]
    faces = _box_labels(rows, canvases.scales, lambda box: 0, _keypoints, only_near=True)
    broken = (*skipped.rows, *canvases.broken)
    return PictureSet("face_landmarks", canvases.pictures, canvases.extents, faces=faces, broken=broken)


def scene_folders(data: Path, split: str) -> list[tuple[str, Path]]:
    """(scene label, folder) pairs of a split, sorted."""
    found = []
    for source in SCENE_FOLDERS:
        for folder in sorted((data / "classification" / source / split).glob("*/")):
            found.append((scene_of(folder), folder))
    return found


def scene_labels(data: Path) -> tuple[str, ...]:
    """The scene classes, sorted."""
    return tuple(sorted({label for label, _ in scene_folders(data, "train")}))


def load_scenes(data: Path, side: int = 192) -> PictureSet:
    """Everyday classes."""
    names = scene_labels(data)
    files = [
        (f, names.index(label)) for label, folder in scene_folders(data, "train") for f in sorted(folder.iterdir())
    ]
    canvases = _load([f for f, _ in files], side, "scenes")
    labels = torch.tensor([files[k][1] for k in canvases.kept])
    return PictureSet(
        "scenes", canvases.pictures, canvases.extents, labels=labels, classes=len(names), broken=canvases.broken
    )


def load_identities(data: Path) -> PictureSet:
    """Face crops by identity, aligned where five points are known, else as they are."""
    folder = data / "face_recognition"
    known = read_points(folder / "ytf_landmarks5_train.json", folder / "train")
    people = sorted(p for p in (folder / "train").glob("*/") if not p.name.startswith("_"))
    files = [(f, label) for label, person in enumerate(people) for f in sorted(person.iterdir())]
    pictures = torch.zeros(len(files), FACE_SIZE, FACE_SIZE, 3, dtype=torch.uint8)

    def one(row: int) -> str | None:
        file = files[row][0]
        try:
            pixels = read_rgb(file)
        except DataError as error:
            return str(error)
        points = known.get(file)
        if points is not None:
            try:
                face = align(pixels, np.array(points, np.float32))
            except ValueError as error:
                return f"picture {file}: {error}"
        else:
            face = resize(pixels, (FACE_SIZE, FACE_SIZE))
        pictures[row] = torch.from_numpy(face)
        return None

    kept, broken = _decode(one, len(files), "identities")
    return PictureSet(
        "identities",
        pictures[kept],
        torch.full((len(kept), 2), float(FACE_SIZE)),
        labels=torch.tensor([files[k][1] for k in kept]),
        classes=len(people),
        broken=broken,
    )
