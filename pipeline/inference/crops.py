"""Which parts of a large picture the network sees besides the whole: crops where small things are or may be.

Pure state, no clock, no pixels. A crop lies around small things that were seen lately, or move; one besides goes around
the picture, tile by tile, so that small things that keep still are found too.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from engines.arrays import Float, Ints

MIN_ZOOM: Final = 1.4  # a crop shows things larger than the whole picture does by this, or is not worth its cost
WANTED_SIDE: Final = 48.0  # input pixels that the longer side of a thing should have in its crop
AROUND: Final = 1.3  # sides of a crop, of what it is to hold: nothing of that lies at its border
OVERLAP: Final = 0.25  # share of a tile that its neighbour sees, too
PATROL: Final = 4  # frames of which one at the least has a crop that goes around, however much is to be looked at
MEMORY: Final = 30  # frames for which a thing is known that no crop came back to
MAX_THINGS: Final = 32  # that crops are chosen for
COLUMNS, ROWS = 32, 18  # cells of the picture, of each of which is known when it was last in a crop


class CropBox(NamedTuple):
    """A part of a picture, in whole source pixels; left and top are even."""

    left: int
    top: int
    width: int
    height: int

    @property
    def area(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class _Group:
    """Things that one crop is to show."""

    box: tuple[float, float, float, float]  # around them, xyxy source pixels
    scale: float  # source pixels of an input pixel, at which the smallest of them has WANTED_SIDE, or 1
    crop: CropBox


class CropChooser:
    """Chooses the crops of the pictures of one stream, one after the other.

    Args:
        picture: its width and height, pixels.
        network: width and height of the network's input. No crop is smaller, but where the picture is.
    """

    def __init__(self, picture: tuple[int, int], network: tuple[int, int]) -> None:
        self.picture, self.network = picture, network
        self._whole = max(picture[0] / network[0], picture[1] / network[1])  # source pixels of an input pixel
        self._frame, self._turn = 0, -1  # of the tile that was last
        self._seen = np.full((ROWS, COLUMNS), -1, np.int64)  # the frame in which each cell was last in a crop
        self._things = np.zeros((0, 5), np.float32)  # xyxy of small things, and the frame in which each was last seen
        self.tiles = tuple(self._tiles()) if self.worth else ()

    @property
    def worth(self) -> bool:
        """Whether the picture is so large that crops show anything better."""
        return self._whole >= MIN_ZOOM

    def saw(self, crops: Iterable[tuple[int, int, int, int]], boxes: Float) -> None:
        """Take note of what was seen in an earlier frame: ``boxes`` (N, 4) xyxy, in it and in these crops of it."""
        found = boxes[self._small(boxes)]
        kept = self._things[self._things[:, 4] >= self._frame - MEMORY]
        centres = (kept[:, :2] + kept[:, 2:4]) / 2
        looked_at = np.zeros(len(kept), np.bool_)
        for left, top, width, height in crops:
            inside = (centres >= (left, top)) & (centres < (left + width, top + height))
            looked_at |= inside.all(axis=1)
        for x0, y0, x1, y1 in found.tolist():  # and what it has become
            looked_at |= ((centres >= (x0, y0)) & (centres < (x1, y1))).all(axis=1)
        now = np.full((len(found), 1), self._frame, np.float32)
        self._things = np.concatenate([np.concatenate([found, now], axis=1), kept[~looked_at]])[:MAX_THINGS]

    def choose(self, moved: Float, count: int) -> list[CropBox]:
        """The crops of the next picture, ``count`` at the most; ``moved`` (N, 4) xyxy: what moves in it.

        What was seen and what moves is looked at in turn, where that takes more crops. Of what is left one crop goes
        around, and of every PATROL frames one has it in any case.
        """
        self._frame += 1
        if not self.worth or not count:
            return []
        things = np.concatenate([self._things[:, :4], moved[self._small(moved)]])[:MAX_THINGS]
        groups = self._grouped(things)
        going_around = len(groups) < count or self._frame % PATROL == 0
        groups.sort(key=lambda group: self._age(group.crop), reverse=True)
        crops = [group.crop for group in groups[: count - going_around]]
        for crop in crops:
            self._note(crop)
        return [*crops, self.go_around()] if going_around else crops

    def go_around(self) -> CropBox:
        """The next of the tiles, one more of the same picture."""
        self._turn = (self._turn + 1) % len(self.tiles)
        self._note(self.tiles[self._turn])
        return self.tiles[self._turn]

    def _small(self, boxes: Float) -> Ints:
        """Which boxes (N, 4) are so small in the whole picture that a crop shows them better."""
        sides = (boxes[:, 2:4] - boxes[:, :2]).max(axis=1, initial=0.0)
        return np.flatnonzero(sides <= WANTED_SIDE * self._whole / MIN_ZOOM)

    def _grouped(self, things: Float) -> list[_Group]:
        """Crops for all things: two become one where that is no larger than both together."""
        groups: list[_Group] = []
        for x0, y0, x1, y1 in things.tolist():
            scale = max(1.0, max(x1 - x0, y1 - y0) / WANTED_SIDE)
            self._add(groups, _Group((x0, y0, x1, y1), scale, self._around((x0, y0, x1, y1), scale)))
        return groups

    def _add(self, groups: list[_Group], new: _Group) -> None:
        place = 0
        while place < len(groups):
            joined = self._joined(groups[place], new)
            if joined is None:
                place += 1
            else:  # which may be near to others
                del groups[place]
                new, place = joined, 0
        groups.append(new)

    def _joined(self, one: _Group, other: _Group) -> _Group | None:
        box = (
            min(one.box[0], other.box[0]),
            min(one.box[1], other.box[1]),
            max(one.box[2], other.box[2]),
            max(one.box[3], other.box[3]),
        )
        scale = max(one.scale, other.scale)
        crop = self._around(box, scale)
        held = max(crop.width / self.network[0], crop.height / self.network[1])
        if crop.area > one.crop.area + other.crop.area or held > self._whole / MIN_ZOOM:
            return None
        return _Group(box, scale, crop)

    def _around(self, box: tuple[float, float, float, float], scale: float) -> CropBox:
        """The crop in whose middle a box lies, unless it is at the picture's edge."""
        x0, y0, x1, y1 = box
        held = max((x1 - x0) / self.network[0], (y1 - y0) / self.network[1]) * AROUND
        return self._crop((x0 + x1) / 2, (y0 + y1) / 2, max(scale, held))

    def _crop(self, x: float, y: float, scale: float) -> CropBox:
        """A crop of ``scale`` source pixels for each input pixel around a point, moved into the picture."""
        sides = [min(_even(side * scale), whole) for side, whole in zip(self.network, self.picture, strict=True)]
        corner = [
            min(max(0, _even(middle - side / 2)), _even(whole - side))
            for middle, side, whole in zip((x, y), sides, self.picture, strict=True)
        ]
        return CropBox(corner[0], corner[1], sides[0], sides[1])

    def _tiles(self) -> Iterator[CropBox]:
        """Tiles over the picture, half way between the whole and pixel for pixel."""
        scale = math.sqrt(self._whole)
        first = self._crop(0.0, 0.0, max(1.0, scale))
        middles = [
            np.linspace(side / 2, whole - side / 2, 1 + math.ceil((whole - side) / (side * (1.0 - OVERLAP)) - 1e-9))
            for side, whole in zip(first[2:], self.picture, strict=True)
        ]
        for y in middles[1].tolist():
            for x in middles[0].tolist():
                yield self._crop(x, y, max(1.0, scale))

    def _cells(self, crop: CropBox) -> tuple[slice, slice]:
        x, y = COLUMNS / self.picture[0], ROWS / self.picture[1]
        left, top = int(crop.left * x + 0.5), int(crop.top * y + 0.5)
        right, bottom = int((crop.left + crop.width) * x + 0.5), int((crop.top + crop.height) * y + 0.5)
        return slice(min(top, ROWS - 1), max(bottom, top + 1)), slice(min(left, COLUMNS - 1), max(right, left + 1))

    def _note(self, crop: CropBox) -> None:
        self._seen[self._cells(crop)] = self._frame

    def _age(self, crop: CropBox) -> float:
        """How many frames ago the cells of a crop were looked at, on average."""
        return self._frame - float(self._seen[self._cells(crop)].mean())


def _even(value: float) -> int:
    return int(value) // 2 * 2
