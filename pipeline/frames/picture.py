"""A decoded picture, kept as the decoder gave it, and the way from its planes to RGB."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, floor
from typing import Final, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from engines.arrays import Plane
from engines.boxes import Letterbox
from engines.planes import Planes

Matrix = Literal["bt601", "bt709", "bt2020"]

# Weights of red and blue in luma: ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant luminance).
_LUMA_WEIGHTS: Final[dict[Matrix, tuple[float, float]]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
# Merging a whole 1080p picture at once leaves the cache and costs 6.8 ms; in strips of this many rows 2.5 ms.
_STRIP_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Picture:
    """Planes of one picture: (y, u, v) for YUV 4:2:0, or one RGB array (H, W, 3).

    Planes may be views into the decoder's own buffers: read them, never write them. A chroma plane of an odd
    size is rounded up, as everywhere in 4:2:0.
    """

    planes: tuple[Plane, ...]
    width: int
    height: int
    full_range: bool = False  # YUV only: luma 0-255 rather than 16-235
    matrix: Matrix = "bt601"  # YUV only

    @property
    def nbytes(self) -> int:
        """Of all planes."""
        return sum(plane.size for plane in self.planes)

    @classmethod
    def from_rgb(cls, pixels: Plane) -> Self:
        """A picture around RGB pixels (H, W, 3), uint8; they are not copied.

        Raises:
            ValueError: another shape or type, or no pixels.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"pixels must be uint8 of shape (H, W, 3), got {pixels.dtype} of shape {pixels.shape}")
        return cls((pixels,), width=pixels.shape[1], height=pixels.shape[0])

    def rgb(self) -> Plane:
        """RGB pixels (H, W, 3) of the whole picture, the caller's own to write."""
        return self.crop((0, 0, self.width, self.height))[0]

    def placed(self, box: Letterbox) -> Planes:
        """The planes with their place in the network's input, for an engine that letterboxes them itself."""
        planes = self.part(box).planes
        return Planes(planes, box, None if len(planes) == 1 else rgb_from_yuv(self.matrix, self.full_range))

    def part(self, box: Letterbox) -> "Picture":
        """The part of the picture that ``box`` letterboxes, which is all of it but for crops; pixels are not copied.

        Raises:
            ValueError: a crop does not lie in the picture, or begins at an odd pixel of YUV, between chroma samples.
        """
        (left, top), (width, height) = box.origin, box.source
        if (width, height) == (self.width, self.height):
            return self
        odd = len(self.planes) > 1 and (left % 2 or top % 2)
        if odd or left < 0 or top < 0 or left + width > self.width or top + height > self.height:
            raise ValueError(
                f"a crop must lie in its picture of {self.width}x{self.height} pixels, and begin at even ones of YUV, "
                f"got {width}x{height} from {left}, {top}"
            )
        first, *chroma = self.planes
        planes = [first[top : top + height, left : left + width]]
        rows, columns = slice(top // 2, (top + height + 1) // 2), slice(left // 2, (left + width + 1) // 2)
        planes += [plane[rows, columns] for plane in chroma]
        return Picture(tuple(planes), width, height, self.full_range, self.matrix)

    def crop(self, box: tuple[float, float, float, float]) -> tuple[Plane, tuple[int, int]]:
        """Convert only what ``box`` = x0, y0, x1, y1 (source pixels) covers.

        The box grows to whole pixels, and to an even corner for YUV, then is clipped to the picture; a box beside
        the picture gives the pixels nearest to it, so that there is always at least one.

        Returns:
            RGB pixels (h, w, 3), the caller's own to write, and the source pixel (left, top) they start at.
        """
        left, right = _span(box[0], box[2], self.width)
        top, bottom = _span(box[1], box[3], self.height)
        if len(self.planes) == 1:
            return self.planes[0][top:bottom, left:right].copy(), (left, top)
        left, top = left // 2 * 2, top // 2 * 2
        y, u, v = self.planes
        out = np.empty((bottom - top, right - left, 3), np.uint8)
        for start in range(top, bottom, _STRIP_ROWS):
            stop = min(start + _STRIP_ROWS, bottom)
            rows, columns = slice(start // 2, (stop + 1) // 2), slice(left // 2, (right + 1) // 2)
            size = (right - left, stop - start)
            strip = (
                y[start:stop, left:right],
                cv2.resize(u[rows, columns], size, interpolation=cv2.INTER_NEAREST),
                cv2.resize(v[rows, columns], size, interpolation=cv2.INTER_NEAREST),
            )
            yuv_to_rgb(strip, self.matrix, self.full_range, out[start - top : stop - top])
        return out, (left, top)


def yuv_to_rgb(planes: Sequence[MatLike], matrix: Matrix, full_range: bool, out: Plane) -> None:
    """Write the RGB of three planes of one size (h, w) into ``out`` (h, w, 3).

    Raises:
        ValueError: ``out`` has another shape than the planes.
    """
    if out.shape != (*planes[0].shape, 3):
        raise ValueError(f"out must have the shape {(*planes[0].shape, 3)}, got {out.shape}")
    cv2.transform(cv2.merge(planes), rgb_from_yuv(matrix, full_range), dst=out)


@cache
def rgb_from_yuv(matrix: Matrix, full_range: bool) -> npt.NDArray[np.float32]:
    """The affine map (3, 4) from 8-bit Y, U, V, 1 to 8-bit R, G, B: the inverse of BT.601-7, section 2.5."""
    red, blue = _LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    black, luma, chroma = (0.0, 1.0, 1.0) if full_range else (16.0, 255 / 219, 255 / 224)
    from_u, from_v = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    linear = np.array(
        [[luma, 0, from_v], [luma, -from_u * blue / green, -from_v * red / green], [luma, from_u, 0]],
    )
    offset = -linear @ np.array([black, 128.0, 128.0])
    return np.column_stack([linear, offset]).astype(np.float32)


def _span(start: float, stop: float, length: int) -> tuple[int, int]:
    """Whole pixels that cover start..stop, inside 0..length, at least one of them."""
    first = min(max(floor(start), 0), length - 1)
    return first, min(max(ceil(stop), first + 1), length)
