"""Ways of looking at a large picture: whole, with crops that are chosen, or with tiles all over it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np

from engines.boxes import Letterbox, letterbox
from engines.decode import Detections, decode
from engines.engine import Engine
from engines.merging import merge
from engines.spec import Thresholds
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.picture import Picture
from pipeline.inference.crops import CropBox, CropChooser

SHARED: Final = 0.2  # of the side of a tile, that its neighbour sees, too: SAHI's default


@dataclass(frozen=True, slots=True)
class LookingWay:
    """Crops of each picture that are seen beside the whole."""

    name: str
    crops: int = 0  # chosen
    tiles: tuple[int, int] | None = None  # columns and rows of them, whatever the picture shows


WAYS: Final = (
    LookingWay("whole"),
    LookingWay("whole + 1 crop", crops=1),
    LookingWay("whole + 2 crops", crops=2),
    LookingWay("whole + 4 crops", crops=4),
    LookingWay("whole + 2x2 tiles", tiles=(2, 2)),
    LookingWay("whole + 3x3 tiles", tiles=(3, 3)),
)


def tiles_of(picture: tuple[int, int], columns: int, rows: int) -> list[CropBox]:
    """Tiles that cover a picture of this width and height and overlap by SHARED, as SAHI lays them."""
    width, height = (
        min(side, 2 * round(side / (count - (count - 1) * SHARED) / 2 + 0.5))
        for side, count in zip(picture, (columns, rows), strict=True)
    )
    lefts, tops = (
        np.linspace(0, side - size, count).astype(int) // 2 * 2
        for side, size, count in zip(picture, (width, height), (columns, rows), strict=True)
    )
    return [CropBox(left, top, width, height) for top, left in product(tops.tolist(), lefts.tolist())]


@dataclass(frozen=True, slots=True)
class Looks:
    """What was found in one picture."""

    detections: Detections
    passes: int  # of the network
    seconds: float  # of CPU time


@dataclass(frozen=True, slots=True)
class _PartsSeen:
    """What the network says of some parts of a picture."""

    places: tuple[Letterbox, ...]
    sure: list[Detections]  # by the thresholds from which tracks begin
    weak: list[Detections]  # and those with which they go on
    seconds: float


class PictureLooker:
    """Looks at single pictures, in each way; what two ways have in common is done once, and its time told for both.

    A picture of its own shows no motion. Its crops lie around what the whole picture shows too small, down to the
    scores with which tracks go on, and then tile by tile; so crops wait until the whole was seen.

    Args:
        engine: of the frame entry.
        sure: thresholds for what counts.
        weak: thresholds for what is worth a crop.
    """

    def __init__(self, engine: Engine, sure: Thresholds, weak: Thresholds) -> None:
        self._engine, self._sure, self._weak = engine, sure, weak
        self._size = engine.spec.width, engine.spec.height

    def look(self, picture: Picture, ways: Sequence[LookingWay]) -> list[Looks]:
        """What each way finds."""
        size = picture.width, picture.height
        whole = self._see(picture, [CropBox(0, 0, *size)])
        chooser = CropChooser(size, self._size)
        found = []
        for way in ways:
            crops = tiles_of(size, *way.tiles) if way.tiles else _chosen(chooser, whole.weak[0], way.crops)
            seen = self._see(picture, crops) if crops else replace(whole, places=(), sure=[], seconds=0.0)
            began = time.process_time()
            merged = merge([whole.sure[0], *seen.sure], [*whole.places, *seen.places], self._sure)
            spent = time.process_time() - began
            found.append(Looks(merged, 1 + len(crops), whole.seconds + seen.seconds + spent))
        return found

    def _see(self, picture: Picture, parts: Sequence[CropBox]) -> _PartsSeen:
        began = time.process_time()
        places = tuple(letterbox(part[2:], self._size, part[:2]) for part in parts)
        pixels = np.empty((len(parts), self._size[1], self._size[0], 3), np.uint8)
        for place, out in zip(places, pixels, strict=True):
            letterbox_into(picture, place, out)
        outputs = self._engine.infer(pixels)
        sure = decode(outputs, places, self._sure)
        seconds = time.process_time() - began
        return _PartsSeen(places, sure, decode(outputs, places, self._weak), seconds)


def _chosen(chooser: CropChooser, seen: Detections, count: int) -> list[CropBox]:
    """The crops of a picture of its own, none of a picture that is hardly larger than the network's input."""
    if not chooser.worth or not count:
        return []
    fresh = CropChooser(chooser.picture, chooser.network)
    fresh.saw([], np.concatenate([seen.objects.boxes, seen.faces.boxes]))
    crops = fresh.choose(np.zeros((0, 4), np.float32), count)
    while len(crops) < min(count, len(fresh.tiles)):
        crops.append(fresh.go_around())
    return crops
