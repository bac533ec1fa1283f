"""What FFmpeg decoded -> pictures as they are displayed: upright, with square pixels, in the right colours."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple, Self

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.plane import VideoPlane

from engines.arrays import Plane
from pipeline.frames.picture import Matrix, Picture

FULL_RANGE: Final = 2  # AVCOL_RANGE_JPEG
# AVColorSpace, ITU-T H.273 table 4; SMPTE 240M is all but BT.709. What is not tagged is taken for BT.601, as FFmpeg
# itself does.
MATRICES: Final[dict[int, Matrix]] = {1: "bt709", 7: "bt709", 9: "bt2020", 10: "bt2020"}
MATRIX_UNSPECIFIED: Final = 2
LIKE_BT601: Final = (0, MATRIX_UNSPECIFIED, 4, 5, 6)  # and RGB, which is converted to it
HDR: Final[dict[int, str]] = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic, ITU-T H.273 table 3
PLANAR: Final = ("yuv420p", "yuvj420p")
SQUARE: Final = Fraction(1)
ASPECTS: Final = (Fraction(1, 8), Fraction(8))  # of pixels; what is beyond is a mistake in the file


def _unnamed(value: object) -> Type:
    """Return a type of side data that PyAV has no name for, as FFmpeg's newest are: EXIF, among them."""
    kind: Any = object.__new__(Type)
    kind._name_, kind._value_ = f"UNNAMED_{value}", value
    named: Type = kind
    return named


# Without it, whoever asks for the side data of such a frame gets a ValueError, and not even the types that have names.
Type._missing_ = staticmethod(_unnamed)  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a picture is put right: its rows and columns exchanged first, then mirrored."""

    transposed: bool = False
    mirrored_x: bool = False  # left and right exchanged
    mirrored_y: bool = False  # top and bottom exchanged

    @classmethod
    def of(cls, matrix: bytes | None) -> "Orientation":
        """As a display matrix says (ISO/IEC 14496-12, 6.2.2), to the nearest quarter turn."""
        if matrix is None:
            return UPRIGHT
        # A point (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def note(self) -> str | None:
        """What a viewer does to the picture, for people; None: nothing."""
        clockwise = {
            (False, False, False): None,
            (False, True, True): "rotated by 180 degrees",
            (True, True, False): "rotated by 90 degrees",
            (True, False, True): "rotated by 270 degrees",
            (False, True, False): "mirrored",
            (False, False, True): "mirrored upside down",
            (True, False, False): "mirrored and rotated by 270 degrees",
            (True, True, True): "mirrored and rotated by 90 degrees",
        }
        return clockwise[self.transposed, self.mirrored_x, self.mirrored_y]

    @property
    def clockwise(self) -> Literal[0, 90, 180, 270]:
        """By how many degrees a viewer turns the picture; 0 also where it mirrors it."""
        if self.mirrored_x is not (self.mirrored_y is not self.transposed):
            return 0
        if not self.transposed:
            return 180 if self.mirrored_x else 0
        return 90 if self.mirrored_x else 270

    def put_right(self, plane: Plane) -> Plane:
        """Return the plane as it is displayed."""
        if self.transposed:
            plane = cv2.transpose(plane).astype(np.uint8, copy=False)
        if self.mirrored_x or self.mirrored_y:
            axis = -1 if self.mirrored_x and self.mirrored_y else 1 if self.mirrored_x else 0
            plane = cv2.flip(plane, axis).astype(np.uint8, copy=False)
        return plane


UPRIGHT: Final = Orientation()
TURNED: Final = {
    0: UPRIGHT,
    90: Orientation(True, True, False),
    180: Orientation(False, True, True),
    270: Orientation(True, False, True),
}  # by degrees clockwise


class Tags(NamedTuple):
    """What FFmpeg found in a stream about the look of a frame."""

    color_range: int
    colorspace: int
    display: bytes | None  # nine numbers
    transfer: int = 0  # color_trc

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """Of one frame."""
        display: Any = frame.side_data.get(Type.DISPLAYMATRIX.name)
        matrix = None if display is None else bytes(display)
        return cls(frame.color_range, frame.colorspace, matrix, frame.color_trc)


@dataclass(frozen=True, slots=True)
class Look:
    """What the pixels of a picture do not tell."""

    orientation: Orientation = UPRIGHT
    full_range: bool = False
    matrix: Matrix = "bt601"
    aspect: Fraction = SQUARE  # width of a pixel by its height
    as_they_are: tuple[str, ...] = ()  # colours that nothing is done about, for people

    @classmethod
    def of(cls, tags: Tags, aspect: Fraction = SQUARE) -> Self:
        """Of frames with these tags, whose pixels have this aspect."""
        notes = [f"HDR ({HDR[tags.transfer]}) not mapped to SDR"] if tags.transfer in HDR else []
        if tags.colorspace not in (*MATRICES, *LIKE_BT601):
            notes.append(f"colour matrix {tags.colorspace} of H.273 taken for BT.601")
        matrix = MATRICES.get(tags.colorspace, "bt601")
        return cls(Orientation.of(tags.display), tags.color_range == FULL_RANGE, matrix, aspect, tuple(notes))

    def picture(self, planes: tuple[Plane, ...]) -> Picture:
        """The picture of the planes (y, u, v) of 4:2:0."""
        if self.aspect is not SQUARE:
            planes = squared(planes, self.aspect)
        if self.orientation is not UPRIGHT and self.orientation != UPRIGHT:
            planes = tuple(self.orientation.put_right(plane) for plane in planes)
        height, width = planes[0].shape
        return Picture(planes, width, height, self.full_range, self.matrix)

    def notes(self, interlaced: bool) -> tuple[str, ...]:
        """What is unusual about the stream, for people."""
        square = None if self.aspect is SQUARE else f"pixels {self.aspect.numerator}:{self.aspect.denominator}"
        notes = (
            self.orientation.note,
            square,
            "interlaced" if interlaced else None,
            "full range" if self.full_range else None,
            "BT.2020" if self.matrix == "bt2020" else None,
            *self.as_they_are,
        )
        return tuple(note for note in notes if note is not None)


def pixel_aspect(told: Fraction | None) -> Fraction:
    """The aspect of a stream's pixels; square ones where it tells none, or nonsense."""
    return told if told not in (None, SQUARE) and ASPECTS[0] <= told <= ASPECTS[1] else SQUARE


def displayed_width(width: int, aspect: Fraction) -> int:
    """The width with square pixels; the height stays, as FFmpeg's players have it."""
    return max(1, round(width * aspect))


def squared(planes: tuple[Plane, ...], aspect: Fraction) -> tuple[Plane, ...]:
    """The planes (y, u, v) of 4:2:0 with square pixels."""
    height, width = planes[0].shape
    width = displayed_width(width, aspect)
    sizes = (width, height), ((width + 1) // 2, (height + 1) // 2)
    return tuple(
        cv2.resize(plane, sizes[index > 0], interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
        for index, plane in enumerate(planes)
    )


def planar(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame in 4:2:0 of 8 bits; its tags are those of what it is now.

    Raises:
        av.FFmpegError: there is no way from its pixel format to that.
    """
    if frame.format.name in PLANAR:
        return frame
    try:
        return frame.reformat(format="yuv420p")
    except av.FFmpegError:  # it is of a matrix that swscale does not know, and need not know
        matrix, frame.colorspace = frame.colorspace, MATRIX_UNSPECIFIED
        shown = frame.reformat(format="yuv420p")
        shown.colorspace = matrix
        return shown


def planes_of(frame: av.VideoFrame) -> tuple[Plane, ...]:
    """The planes (y, u, v) of a :func:`planar` frame, where the decoder put them."""
    return tuple(_view(plane) for plane in frame.planes)


def _view(plane: VideoPlane) -> Plane:
    """The pixels of a plane where the decoder put them.

    The array keeps the frame and so its buffer alive; the decoder takes another buffer for its next picture.
    """
    stride = plane.line_size
    pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, abs(stride))[:, : plane.width]
    if stride < 0:
        return pixels[::-1].copy()
    pixels.flags.writeable = False  # the decoder predicts from it
    return pixels
