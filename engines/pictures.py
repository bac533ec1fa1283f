"""Still pictures: reading them, and fitting them into the network's input."""

import io
import warnings
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from cv2.typing import MatLike

from engines.arrays import Pixels
from engines.boxes import Letterbox
from engines.errors import DataError, one_line

MAX_PIXELS: Final = 2**26  # of a picture: what it takes in memory is chosen by whoever made it
TOO_LARGE: Final = f"has more than {MAX_PIXELS} pixels, as many as are allowed: make it smaller"
PADDING_GREY = 114  # 0-255, in all three channels
# Brands of ISO base media files (ISO/IEC 23008-12, AV1 Image File Format) that hold still pictures.
AVIF: Final = (b"avif", b"avis")
HEIF: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

PNG: Final = b"\x89PNG"
TURNED_BY_TEXT: Final = (b"Raw profile type exif", b"tiff:Orientation")  # of PNG: ImageMagick's, XMP's


def read_rgb(path: str | Path) -> Pixels:
    """Read a picture file as RGB pixels (H, W, 3), turned upright as the file says.

    Raises:
        DataError: the file cannot be read, is not a picture, or is HEIF and the extra ``heif`` is not installed.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"picture {path}: cannot be read: {error.strerror}") from error
    return decode_rgb(content, path)


def decode_rgb(content: bytes, path: str | Path) -> Pixels:
    """Return the pixels of a picture file's content as RGB (H, W, 3), turned upright as the file says.

    Raises:
        DataError: it is not a picture, has more than MAX_PIXELS, or is HEIF and the extra ``heif`` is missing; ``path``
            is how it is called.
    """
    if _is_for_pillow(content):
        return _read_with_pillow(content, path)
    _check_size(size_of(content, path), path)
    data = np.frombuffer(content, np.uint8)
    try:
        # OpenCV throws for absurd sizes, and gives None for anything else it cannot decode.
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise DataError(f"picture {path}: cannot be decoded: {error.err}") from error
    return _read_with_pillow(content, path) if pixels is None else np.asarray(pixels, np.uint8)


def size_of(content: bytes, path: str | Path) -> tuple[int, int]:
    """Return the width and height that the header of a picture file's content claims; nothing is decoded.

    Raises:
        DataError: it is not a picture; ``path`` is how it is called.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise DataError(f"picture {path}: cannot be decoded: it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a size whose limit is ours, and of what is damaged
            with Image.open(io.BytesIO(content)) as picture:
                return picture.size
    except Image.DecompressionBombError as error:
        raise DataError(f"picture {path}: {TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        what = "cannot be decoded: it is damaged" if content[4:8] == b"ftyp" else "is not a picture of a known kind"
        raise DataError(f"picture {path}: {what}") from error
    except Exception as error:  # whatever its readers raise
        raise DataError(f"picture {path}: cannot be decoded: {one_line(error)}") from error


def _check_size(size: tuple[int, int], path: str | Path) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"picture {path}: {TOO_LARGE}")


def _is_for_pillow(content: bytes) -> bool:
    """Whether OpenCV would not turn it upright: AVIF, HEIF, WebP, some PNG."""
    if content[4:8] == b"ftyp":
        return content[8:12] in AVIF + HEIF
    return content[8:12] == b"WEBP" or (content.startswith(PNG) and any(text in content for text in TURNED_BY_TEXT))


def _read_with_pillow(content: bytes, path: str | Path) -> Pixels:
    """Read what OpenCV does not read, or does not turn upright."""
    from PIL import Image, ImageOps

    if content[4:8] == b"ftyp" and content[8:12] in HEIF:
        try:
            from pillow_heif import register_heif_opener
        except ModuleNotFoundError:
            raise DataError(
                f"picture {path}: is HEIF (as phones make it), which needs the extra 'heif': "
                "pip install 'trunkline[heif]'; or save it as JPEG"
            ) from None
        register_heif_opener()
    _check_size(size_of(content, path), path)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):  # Pillow would show all but the darkest as white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.asarray(upright.convert("RGB"), np.uint8)
    except Exception as error:  # whatever its decoders raise
        raise DataError(f"picture {path}: cannot be decoded: {one_line(error)}") from error


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize a plane (H, W) or RGB pixels (H, W, 3) to ``size`` = (width, height).

    Linear interpolation alone aliases below half size; exact halvings first cost 0.05 ms more for 1080p and bring
    6 dB at a third of the size, where area interpolation costs 0.8 ms more. Rows or columns that do not halve
    evenly must not shift the picture against its boxes: those go the slow way.
    """
    scaled: MatLike = pixels
    while scaled.shape[1] >= 2 * size[0] and scaled.shape[0] >= 2 * size[1]:
        height, width = scaled.shape[:2]
        if height % 2 or width % 2:
            return np.asarray(cv2.resize(scaled, size, interpolation=cv2.INTER_AREA), np.uint8)
        scaled = cv2.resize(scaled, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(scaled, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def letterbox_rgb(pixels: Pixels, box: Letterbox) -> Pixels:
    """Fit RGB pixels (H, W, 3) of the size ``box.source`` into a grey canvas of the size ``box.target``.

    Returns:
        uint8 RGB (target height, target width, 3).

    Raises:
        ValueError: the pixels are not of the size that the letterbox was made for.
    """
    height, width = pixels.shape[:2]
    if (width, height) != box.source:
        raise ValueError(f"pixels are {width}x{height}, but the letterbox is for {box.source[0]}x{box.source[1]}")
    target_width, target_height = box.target
    canvas = np.full((target_height, target_width, 3), PADDING_GREY, np.uint8)
    (left, top), (scaled_width, scaled_height) = box.pad, box.scaled
    canvas[top : top + scaled_height, left : left + scaled_width] = resize(pixels, box.scaled)
    return canvas
