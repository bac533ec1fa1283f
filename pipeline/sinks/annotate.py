"""Draw a finished frame for people to look at."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from engines.arrays import Pixels
from pipeline.frames.types import Counts, Result
from pipeline.settings.schema import StreamSettings

Colour = tuple[int, int, int]
Rect = tuple[int, int, int, int]  # x, y, width, height

INK: Final[Colour] = (16, 18, 22)
PAPER: Final[Colour] = (250, 250, 250)
NAMED: Final[Colour] = (64, 224, 170)
UNKNOWN: Final[Colour] = (206, 210, 216)
PLACE: Final[Colour] = (255, 196, 64)
ARROW_SHARE: Final = 0.05  # of the picture's shorter side: from a line towards its side b
ARROW_HEAD: Final = 0.4  # of the arrow's length
DOT_SHARE: Final = 1 / 24  # of a face's shorter side: the radius of a landmark, at the most
MIN_RIMMED: Final = 1.5  # pixels: rims of smaller landmarks would hide the face
GOLDEN_TURN: Final = 0.618_033_988_75  # neighbouring track numbers land far apart on the colour circle
TRACK_HUES: Final = 0.19, 0.88  # from which hue how far round: amber is left to zones and lines
FONT: Final = cv2.FontFace("sans")
WEIGHT: Final = 500  # of the variable font: between regular (400) and bold (700)
SUBPIXEL_BITS: Final = 4  # OpenCV draws lines at sixteenths of a pixel


def track_colour(track: int) -> Colour:
    """The colour of a track, RGB; the same number always has the same."""
    first, extent = TRACK_HUES
    red, green, blue = colorsys.hls_to_rgb((first + extent * (track * GOLDEN_TURN % 1.0)) % 1.0, 0.60, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour(background: Colour) -> Colour:
    """Dark or light, whichever stands out more, by the contrast ratio of WCAG 2."""
    behind = _luminance(background)
    on_ink, on_paper = ((behind + 0.05) / (_luminance(INK) + 0.05), (_luminance(PAPER) + 0.05) / (behind + 0.05))
    return INK if on_ink >= on_paper else PAPER


def place_label(
    box: npt.NDArray[np.float32], size: tuple[int, int], picture: tuple[int, int], taken: Sequence[Rect]
) -> Rect:
    """Where a label goes: above its box, below it, inside, or higher; at its left, or at its right where that is taken.

    Never off the picture, and over others only when crowded.

    Args:
        box: (4,) xyxy in pixels.
        size: width, height of the label.
        picture: width, height of the picture.
        taken: rectangles that are in use.

    Returns:
        x, y, width, height; a label larger than the picture starts at its left or upper edge.
    """
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    width, height = size
    rightmost, lowest = max(0, picture[0] - width), max(0, picture[1] - height)
    candidates = [
        (max(0, min(x, rightmost)), max(0, min(y, lowest)), width, height)
        for y in (y0 - height, y1, y0, y1 - height, y0 - 2 * height, y1 + height)
        for x in (x0, x1 - width)
    ]
    free = (rect for rect in candidates if not any(_overlap(rect, other) for other in taken))
    return next(free, candidates[0])


def annotate(
    pixels: Pixels,
    result: Result,
    objects: tuple[str, ...],
    scenes: tuple[str, ...],
    settings: StreamSettings | None = None,
    counts: Mapping[str, Counts] | None = None,
) -> Pixels:
    """A copy of the picture with what was seen in it.

    Args:
        pixels: (H, W, 3) RGB, the whole picture of ``result.frame``; left as it is.
        result: what to draw: tracks with their smoothed labels, faces with their names, the scene, the latency.
        objects: object labels, in the order of the network's classes.
        scenes: scene labels, likewise.
        settings: the stream's, for its zones and lines.
        counts: who is in those and how many went across; none as long as nobody told.
    """
    canvas = _Canvas.of(pixels)
    if settings is not None:
        _draw_places(canvas, settings, counts or {})
    _draw_corners(canvas, result, scenes)
    _draw_objects(canvas, result, objects)
    _draw_faces(canvas, result)
    canvas.write_labels()
    return canvas.pixels


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    rect: Rect
    fill: Colour
    opacity: float


@dataclass(frozen=True, slots=True)
class _Canvas:
    """A picture being drawn on; labels are kept until the end, so that no line crosses a text."""

    pixels: Pixels
    line: int  # width of a box's line
    font: int  # height of the text
    labels: list[_Label] = field(default_factory=list)

    @classmethod
    def of(cls, pixels: Pixels) -> "_Canvas":
        short = min(pixels.shape[:2])
        return cls(np.array(pixels, dtype=np.uint8, order="C"), max(1, round(short / 320)), max(10, round(short / 42)))

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def box(self, box: npt.NDArray[np.float32], colour: Colour, line: int) -> None:
        x0, y0, x1, y1 = (round(float(value) * (1 << SUBPIXEL_BITS)) for value in box)
        for ink, width in ((INK, line + 2), (colour, line)):
            cv2.rectangle(self.pixels, (x0, y0), (x1, y1), ink, width, cv2.LINE_AA, SUBPIXEL_BITS)

    def path(self, points: npt.NDArray[np.float64], closed: bool) -> None:
        corners = [np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)]
        for ink, width in ((INK, self.line + 2), (PLACE, self.line)):
            cv2.polylines(self.pixels, corners, closed, ink, width, cv2.LINE_AA, SUBPIXEL_BITS)

    def arrow(self, start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> None:
        tail, tip = (tuple(np.rint(point * (1 << SUBPIXEL_BITS)).astype(int).tolist()) for point in (start, end))
        for ink, width in ((INK, self.line + 2), (PLACE, self.line)):
            cv2.arrowedLine(self.pixels, tail, tip, ink, width, cv2.LINE_AA, SUBPIXEL_BITS, ARROW_HEAD)

    def dot(self, point: npt.NDArray[np.float32], colour: Colour, most: float) -> None:
        """A disc of ``most`` pixels' radius at the most, with a rim where there is room for one."""
        x, y = (round(float(value) * (1 << SUBPIXEL_BITS)) for value in point)
        radius = min(self.line + 1.0, most)
        rims = [(INK, radius + 1.0)] if radius >= MIN_RIMMED else []
        for ink, size in (*rims, (colour, max(1.0, radius))):
            of = round(size * (1 << SUBPIXEL_BITS))
            cv2.circle(self.pixels, (x, y), of, ink, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)

    def label_at(self, box: npt.NDArray[np.float32], text: str, fill: Colour, opacity: float = 1.0) -> None:
        _, _, width, _ = cv2.getTextSize(self.size, text, (0, 0), FONT, self.font, WEIGHT)
        size = width + self.font, round(self.font * 1.55)
        rect = place_label(box, size, self.size, [label.rect for label in self.labels])
        self.labels.append(_Label(text, rect, fill, opacity))

    def write_labels(self) -> None:
        for label in self.labels:
            x, y, width, height = label.rect
            region = self.pixels[y : y + height, x : x + width]
            region[:] = cv2.addWeighted(region, 1 - label.opacity, np.full_like(region, label.fill), label.opacity, 0)
            baseline = (x + self.font // 2, y + round(height * 0.72))
            cv2.putText(self.pixels, label.text, baseline, text_colour(label.fill), FONT, self.font, WEIGHT)


def _draw_places(canvas: _Canvas, settings: StreamSettings, counts: Mapping[str, Counts]) -> None:
    size = np.array(canvas.size, np.float64)
    for zone in settings.zones:
        corners = np.array(zone.points) * size
        canvas.path(corners, closed=True)
        text = f"{zone.name}   {_sum(counts, zone.name, 'present')}"
        canvas.label_at(np.tile(corners[corners[:, 1].argmin()], 2).astype(np.float32), text, PLACE)
    for line in settings.lines:
        start, end = np.array(line.points) * size
        along = (end - start) / max(float(np.hypot(*(end - start))), 1.0)
        middle, arm = (start + end) / 2, ARROW_SHARE * size.min()
        canvas.path(np.stack([start, end]), closed=False)
        canvas.arrow(middle, middle + arm * np.array([-along[1], along[0]]))
        to_b, to_a = (_sum(counts, line.name, way) for way in ("a_to_b", "b_to_a"))
        text = f"{line.name}   a>b  {to_b}   b>a  {to_a}"
        canvas.label_at(np.tile(start, 2).astype(np.float32), text, PLACE)


def _sum(counts: Mapping[str, Counts], name: str, what: str) -> int:
    """Of all labels together."""
    return sum(counts.get(name, {}).get(what, {}).values())


def _draw_corners(canvas: _Canvas, result: Result, scenes: tuple[str, ...]) -> None:
    width, height = canvas.size
    latency_ms = (result.finished_ns - result.frame.clock_ns) / 1e6
    footer = f"{result.frame.stream}   frame {result.frame.seq}   {latency_ms:.0f} ms"
    canvas.label_at(np.array([0, height, width, height], dtype=np.float32), footer, INK, 0.6)
    if result.scene_label >= 0:
        scene = f"{scenes[result.scene_label]} {result.scene[result.scene_label]:.2f}"
        canvas.label_at(np.zeros(4, dtype=np.float32), f"scene  {scene}", INK, 0.6)


def _draw_objects(canvas: _Canvas, result: Result, objects: tuple[str, ...]) -> None:
    tracks = result.objects
    for track, box, label, score in zip(tracks.ids, tracks.boxes, result.labels, result.label_scores, strict=True):
        colour = track_colour(int(track))
        canvas.box(box, colour, canvas.line)
        canvas.label_at(box, f"{objects[label]} {score:.2f}  #{track}", colour)


def _draw_faces(canvas: _Canvas, result: Result) -> None:
    tracks = result.faces
    landmarks = result.detections.faces.landmarks[tracks.rows]
    for box, points, identity in zip(tracks.boxes, landmarks, result.identities, strict=True):
        colour = UNKNOWN if identity is None else NAMED
        canvas.box(box, colour, max(1, canvas.line - 1))
        for point in points:
            canvas.dot(point, colour, DOT_SHARE * float((box[2:] - box[:2]).min()))
        canvas.label_at(box, "unknown" if identity is None else f"{identity.name} {identity.score:.2f}", colour)


def _luminance(colour: Colour) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2)."""
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
        for share in (value / 255 for value in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _overlap(one: Rect, other: Rect) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )
