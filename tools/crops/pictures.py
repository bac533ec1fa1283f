"""Labelled pictures looked at in several ways: which share of the boxes each finds, by their size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engines.arrays import Pixels
from engines.data.coco import CocoBox, CocoSet
from engines.data.names import coco_name
from engines.decode import Objects
from engines.errors import DataError
from engines.evaluation.coco import AREAS, BoxDetection, detections_of
from engines.evaluation.matching import match
from engines.pictures import PADDING_GREY, read_rgb
from pipeline.frames.picture import Picture
from tools.crops.ways import LookingWay, Looks, PictureLooker
from tools.tracking.sequences import read_rows

PEDESTRIAN: Final = 1  # class of MOTChallenge


class CropFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of looking finds, at the model's thresholds and IoU 0.5, all classes together."""

    way: str
    pictures: int
    passes: float  # of the network, a picture
    cpu_ms: float  # a picture: scaling, the network, detection; one picture at a time
    boxes: dict[str, int]  # that count, of each size in source pixels, COCO's
    found: dict[str, int]
    right: int  # detections, of all sizes
    wrong: int

    @property
    def precision(self) -> float:
        """Share of the detections that are right."""
        return self.right / max(1, self.right + self.wrong)


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture and the boxes in it."""

    pixels: Pixels
    boxes: list[CocoBox]


def single(truth: CocoSet) -> Iterator[LabelledPicture]:
    """The pictures of a set, one by one."""
    for key, path in truth.pictures.items():
        yield LabelledPicture(read_rgb(path), [box for box in truth.boxes if box.image_id == key])


def sheets(pictures: Iterable[LabelledPicture], columns: int, rows: int) -> Iterator[LabelledPicture]:
    """Large pictures made of small ones that lie beside each other as they are, each somewhere in a cell of its own.

    So labels stay human and pixels real, where there are no large labelled pictures. What is left over is left out.
    """
    random, batch = np.random.default_rng(0), list[LabelledPicture]()
    for picture in pictures:
        batch.append(picture)
        if len(batch) == columns * rows:
            yield _sheet(batch, columns, random)
            batch = []


def _sheet(batch: Sequence[LabelledPicture], columns: int, random: np.random.Generator) -> LabelledPicture:
    height, width = (max(each.pixels.shape[axis] for each in batch) for axis in (0, 1))
    canvas = np.full((height * len(batch) // columns, width * columns, 3), PADDING_GREY, np.uint8)
    boxes = []
    for place, each in enumerate(batch):
        (own_height, own_width), (row, column) = each.pixels.shape[:2], divmod(place, columns)
        left = column * width + int(random.integers(0, width - own_width + 1))
        top = row * height + int(random.integers(0, height - own_height + 1))
        canvas[top : top + own_height, left : left + own_width] = each.pixels
        for box in each.boxes:  # some are of more than the picture: nothing is said of a class there
            x0, y0, x1, y1 = np.clip(box.xyxy, 0, [own_width, own_height] * 2).tolist()
            boxes.append(msgspec.structs.replace(box, bbox=(left + x0, top + y0, x1 - x0, y1 - y0)))
    return LabelledPicture(canvas, boxes)


def sequence(folder: Path) -> tuple[Iterator[LabelledPicture], dict[int, str]]:
    """The pictures of a sequence in MOTChallenge's layout with its pedestrians, and the categories.

    Raises:
        DataError: it has no pictures or no true boxes.
    """
    files = sorted((folder / "img1").glob("*.jpg"))
    if not files:
        raise DataError(f"{folder}: has no pictures (img1/*.jpg)")
    rows = read_rows(folder / "gt" / "gt.txt")

    def pictures() -> Iterator[LabelledPicture]:
        for file, own in zip(files, rows.by_frame(len(files)), strict=True):
            counts = (own.scores > 0) & (own.classes == PEDESTRIAN)
            boxes = [
                CocoBox(number, 0, 1, (x0, y0, x1 - x0, y1 - y0), ignore=int(not wanted))
                for number, ((x0, y0, x1, y1), wanted) in enumerate(
                    zip(own.boxes.tolist(), counts.tolist(), strict=True), start=1
                )
            ]
            yield LabelledPicture(read_rgb(file), boxes)

    return pictures(), {1: "person"}


def measure(
    pictures: Iterable[LabelledPicture],
    categories: dict[int, str],
    looker: PictureLooker,
    labels: Sequence[str],
    ways: Sequence[LookingWay],
    told: Callable[[], None] = lambda: None,
) -> list[CropFigures]:
    """Look at all pictures in each way; ``told`` is called after each picture."""
    ids = {coco_name(name): key for key, name in categories.items()}
    of_label = {index: ids[coco_name(label)] for index, label in enumerate(labels) if coco_name(label) in ids}
    boxes, found = list[CocoBox](), [list[BoxDetection]() for _ in ways]
    looks: list[list[Looks]] = [[] for _ in ways]
    count = 0
    for picture in pictures:
        boxes += [msgspec.structs.replace(box, id=len(boxes) + 1, image_id=count) for box in picture.boxes]
        for way, look in enumerate(looker.look(Picture.from_rgb(picture.pixels), ways)):
            looks[way].append(look)
            found[way] += _detections(count, look.detections.objects, of_label)
        count += 1
        told()
    if not count:
        raise DataError("there is no picture to look at")
    truth = CocoSet({key: Path(str(key)) for key in range(count)}, boxes, categories)
    return [_figures(way, truth, own, seen) for way, own, seen in zip(ways, found, looks, strict=True)]


def _detections(picture: int, objects: Objects, of_label: dict[int, int]) -> list[BoxDetection]:
    rows = [row for row, label in enumerate(objects.labels.tolist()) if label in of_label]
    names = [of_label[label] for label in objects.labels[rows].tolist()]
    return detections_of(picture, objects.boxes[rows], objects.scores[rows], names)


def _figures(way: LookingWay, truth: CocoSet, found: list[BoxDetection], looks: list[Looks]) -> CropFigures:
    right, wrong, _ = _counted(truth, found)
    by_size = {name: _counted(_of_size(truth, *area), found) for name, area in AREAS.items() if name != "all"}
    return CropFigures(
        way=way.name,
        pictures=len(truth.pictures),
        passes=sum(each.passes for each in looks) / len(looks),
        cpu_ms=round(1e3 * sum(each.seconds for each in looks) / len(looks), 2),
        boxes={name: each[2] for name, each in by_size.items()},
        found={name: each[0] for name, each in by_size.items()},
        right=right,
        wrong=wrong,
    )


def _of_size(truth: CocoSet, least: float, most: float) -> CocoSet:
    """The same set, in which boxes of other areas count for nothing."""
    boxes = [
        box if least <= box.bbox[2] * box.bbox[3] < most else msgspec.structs.replace(box, ignore=1)
        for box in truth.boxes
    ]
    return CocoSet(truth.pictures, boxes, truth.categories)


def _counted(truth: CocoSet, found: list[BoxDetection]) -> tuple[int, int, int]:
    """Right and wrong detections at IoU 0.5, and boxes that count."""
    right = wrong = wanted = 0
    for category in match(truth, found).categories.values():
        _, _, correct = category.at(0)
        right, wrong = right + int(correct.sum()), wrong + int((~correct).sum())
        wanted += int(category.wanted.sum())
    return right, wrong, wanted
