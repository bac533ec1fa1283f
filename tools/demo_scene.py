"""What happens in the demo's clip: which photograph is where, when. Only geometry; nothing is read or drawn here.

The photographs are in the public domain or CC0 and ship inside scikit-image and matplotlib.
"""

import importlib.util
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from engines.arrays import Float, Mask
from engines.errors import DataError

Box = tuple[float, float, float, float]

WIDTH: Final = 1280
HEIGHT: Final = 720
RATE: Final = 25  # frames/s
SECONDS: Final = 30
FACE_SHOWS: Final = 0.6  # share of a face that has to be uncovered
COUNT_SCALE: Final = 8  # what can be seen is counted on pictures smaller by this factor


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph inside an installed package; ``face`` is xyxy in its own pixels."""

    package: str
    file: str
    size: tuple[int, int]  # width, height
    label: str
    person: str | None = None
    face: Box | None = None

    @property
    def path(self) -> Path:
        """Where the file is. Raises DataError when its package is not installed."""
        spec = importlib.util.find_spec(self.package)
        for location in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (path := Path(location) / self.file).is_file():
                return path
        raise DataError(
            f"the demo's photograph {Path(self.file).name} comes with scikit-image or matplotlib and was not found: "
            "run pip install 'trunkline[demo]'"
        )


PHOTOGRAPHS: Final = {
    "astronaut": Photograph(
        "skimage", "data/astronaut.png", (512, 512), "person", "Eileen Collins", (176, 58, 274, 188)
    ),
    "hopper": Photograph(
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        (512, 600),
        "person",
        "Grace Hopper",
        (165, 125, 358, 345),
    ),
    "cameraman": Photograph("skimage", "data/camera.png", (512, 512), "person"),
    "cat": Photograph("skimage", "data/chelsea.png", (451, 300), "cat"),
    "motorcycle": Photograph("skimage", "data/motorcycle_left.png", (741, 500), "motorcycle"),
}
BACKDROPS: Final = (
    Photograph("skimage", "data/rocket.jpg", (640, 427), "backdrop"),
    Photograph("skimage", "data/coffee.png", (600, 400), "backdrop"),
    Photograph("skimage", "data/motorcycle_right.png", (741, 500), "backdrop"),
)


@dataclass(frozen=True, slots=True)
class Pose:
    """How a photograph lies in the picture at one moment."""

    time_s: float
    x: float  # centre, pixels
    y: float
    height: float  # pixels
    angle: float = 0.0  # degrees, clockwise
    tilt: float = 0.0  # perspective: by which share the left edge is taller than the middle
    light: float = 1.0
    blur: float = 0.0  # standard deviation, pixels

    def transform(self, photo: Photograph) -> npt.NDArray[np.float64]:
        """The (3, 3) perspective transform from the photograph's pixels to the picture's."""
        width, height = photo.size
        source = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
        return np.asarray(cv2.getPerspectiveTransform(source, self.corners(photo)), np.float64)

    def corners(self, photo: Photograph) -> Float:
        """Where the corners of the photograph go: (4, 2) pixels, clockwise from its upper left one."""
        width = self.height * photo.size[0] / photo.size[1]
        left, right = self.height * (1 + self.tilt) / 2, self.height * (1 - self.tilt) / 2
        flat = np.array([[-width / 2, -left], [width / 2, -right], [width / 2, right], [-width / 2, left]])
        cos, sin = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        turned = flat @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y)
        return np.asarray(turned, np.float32)


@dataclass(frozen=True, slots=True)
class Appearance:
    """A photograph on its way through the picture, from its first pose to its last."""

    photo: str
    poses: tuple[Pose, ...]

    def at(self, time_s: float) -> Pose | None:
        """The pose at a moment, smooth between the given ones; None before the first and after the last."""
        if not self.poses[0].time_s <= time_s < self.poses[-1].time_s:
            return None
        return Pose(time_s, *map(float, _curve(self.poses)(time_s)))


@cache
def _curve(poses: tuple[Pose, ...]) -> Any:
    from scipy.interpolate import PchipInterpolator  # takes longer to import than all else of a demo

    table = np.array([astuple(pose) for pose in poses])
    return PchipInterpolator(table[:, 0], table[:, 1:])


# Later ones lie over earlier ones. Grace Hopper is there well before, during and after half-time, when she is enrolled.
APPEARANCES: Final = (
    Appearance(
        "cat",
        (
            Pose(8.5, 760, 1000, 420, -6),
            Pose(10.3, 640, 380, 620, -2),
            Pose(11.3, 640, 370, 900, 0),
            Pose(12.3, 600, 370, 860, 2),
            Pose(13.6, 330, 400, 430, -5, 0.05),
            Pose(15.2, -420, 420, 420, -8),
        ),
    ),
    Appearance(
        "motorcycle",
        (
            Pose(17.0, -420, 400, 460, -3),
            Pose(18.8, 400, 400, 480, 2, -0.05),
            Pose(20.5, 470, 400, 520, 4, -0.05, 0.6),
            Pose(22.2, 600, 380, 700, 0),
            Pose(23.8, 640, 370, 880, -2),
            Pose(25.6, 640, -520, 700, -4),
        ),
    ),
    Appearance(
        "astronaut",
        (
            Pose(0.2, -320, 380, 560, -4),
            Pose(1.6, 380, 380, 600, -2),
            Pose(4.2, 500, 375, 690, 5, 0.05),
            Pose(6.4, 380, 370, 560, 9, 0.0, 0.8),
            Pose(7.8, 360, 380, 560, 1, -0.06, 0.5),
            Pose(9.6, -340, 400, 520, -6, 0.0, 0.8),
        ),
    ),
    Appearance(
        "astronaut",
        (
            Pose(14.2, 330, -340, 480, 8),
            Pose(15.6, 340, 350, 520, 4, 0.0, 1.0, 3.0),
            Pose(16.6, 350, 370, 580, -3, 0.05),
            Pose(17.8, 360, 380, 600, -8, 0.05),
            Pose(19.0, 330, 1080, 560, -10),
        ),
    ),
    Appearance(
        "hopper",
        (
            Pose(3.2, 1560, 400, 520, 6, 0.0, 1.0, 4.0),
            Pose(4.8, 960, 390, 540, 3),
            Pose(6.6, 930, 370, 640, -4, 0.05),
            Pose(8.4, 980, 380, 600, -8, 0.05, 0.7),
            Pose(9.6, 1580, 400, 540, -3, 0.0, 0.9),
        ),
    ),
    Appearance(
        "hopper",
        (
            Pose(11.6, 930, 1080, 560, -5),
            Pose(13.2, 900, 390, 600, -2),
            Pose(15.5, 900, 370, 660, 3, -0.05),
            Pose(17.5, 940, 375, 560, 7),
            Pose(19.5, 940, 380, 620, 0, 0.05, 0.75),
            Pose(20.8, 950, 380, 600, -4, 0.0, 1.0, 2.0),
            Pose(22.2, 1580, 380, 560, -8),
        ),
    ),
    Appearance(
        "cameraman",
        (
            Pose(21.0, 1000, 1020, 520, 4),
            Pose(22.6, 980, 400, 560, 1),
            Pose(24.4, 960, 400, 600, -4, 0.05),
            Pose(25.8, 960, 1050, 560, -8),
        ),
    ),
    Appearance(
        "astronaut",
        (
            Pose(24.6, -320, 380, 520, 6),
            Pose(26.0, 340, 380, 560, 2, -0.05),
            Pose(28.2, 360, 375, 640, -5),
            Pose(30.1, 340, 380, 660, 0, 0.0, 0.85),
        ),
    ),
    Appearance(
        "hopper",
        (
            Pose(25.0, 1560, 400, 560, -6),
            Pose(26.4, 930, 380, 600, -2, 0.05, 1.0, 1.5),
            Pose(28.4, 920, 370, 660, 4),
            Pose(30.1, 940, 380, 640, 0, 0.0, 0.85),
        ),
    ),
)


class ShownPhoto(msgspec.Struct, frozen=True):
    """One photograph in one frame: the truth. Boxes are xyxy in pixels, inside the picture."""

    photo: str
    label: str
    person: str | None
    box: Box
    face: Box | None  # None as well when most of it cannot be seen
    visible: float  # share of the photograph that is in the picture and not covered


def poses_at(time_s: float) -> list[tuple[str, Pose]]:
    """The photographs that are under way at a moment and how they lie, from back to front."""
    poses = ((appearance.photo, appearance.at(time_s)) for appearance in APPEARANCES)
    return [(photo, pose) for photo, pose in poses if pose is not None]


def seen_at(time_s: float) -> tuple[ShownPhoto, ...]:
    """What can be seen at a moment, from back to front."""
    covered = np.zeros((HEIGHT // COUNT_SCALE, WIDTH // COUNT_SCALE), dtype=np.uint8)
    seen = [_seen(photo, pose, covered) for photo, pose in reversed(poses_at(time_s))]
    return tuple(one for one in reversed(seen) if one is not None)


def _seen(name: str, pose: Pose, covered: Mask) -> ShownPhoto | None:
    """What of a photograph can be seen where ``covered`` is 0; then covers what it lies on."""
    photo = PHOTOGRAPHS[name]
    corners = pose.corners(photo)
    own = _mask(corners)
    visible = _share(own, corners, covered)
    face = _face(photo, pose, covered)
    np.maximum(covered, own, out=covered)
    return ShownPhoto(name, photo.label, photo.person, _bounds(corners), face, visible) if visible > 0 else None


def _face(photo: Photograph, pose: Pose, covered: Mask) -> Box | None:
    if photo.face is None:
        return None
    x0, y0, x1, y1 = photo.face
    outline = np.array([[[x0, y0], [x1, y0], [x1, y1], [x0, y1]]], dtype=np.float32)
    face = np.asarray(cv2.perspectiveTransform(outline, pose.transform(photo))[0], np.float32)
    return _bounds(face) if _share(_mask(face), face, covered) > FACE_SHOWS else None


def _mask(polygon: Float) -> Mask:
    mask = np.zeros((HEIGHT // COUNT_SCALE, WIDTH // COUNT_SCALE), dtype=np.uint8)
    cv2.fillConvexPoly(mask, np.round(polygon / COUNT_SCALE).astype(np.int32), 1)
    return mask


def _share(mask: Mask, polygon: Float, covered: Mask) -> float:
    free = int(np.count_nonzero(mask > covered))
    return round(min(1.0, free * COUNT_SCALE**2 / cv2.contourArea(polygon)), 3)


def _bounds(polygon: Float) -> Box:
    x0, y0 = np.clip(polygon.min(axis=0), 0, (WIDTH, HEIGHT))
    x1, y1 = np.clip(polygon.max(axis=0), 0, (WIDTH, HEIGHT))
    return round(float(x0), 1), round(float(y0), 1), round(float(x1), 1), round(float(y1), 1)
