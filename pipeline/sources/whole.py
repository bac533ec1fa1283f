"""Whether a file is as long as its own headers say."""

from pathlib import Path
from typing import BinaryIO, Final

TS_PACKETS: Final = (188, 192, 204)  # bytes: ISO/IEC 13818-1, with a time stamp before each, with error correction
TS_SYNC: Final = 0x47
WEBP_ANIMATION: Final = 0x02
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def cut_short(path: Path) -> str | None:
    """Say what is missing of a file whose end is not there; None where it is whole, or does not tell.

    MP4 and MOV (ISO/IEC 14496-12), Matroska and WebM (RFC 9559), AVI and MPEG-TS tell.
    """
    if not path.is_file():
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[4:8] == b"ftyp":
            return _missing(_end_of_boxes(file, size), size)
        if start[:4] == EBML:
            return _missing(_end_of_segment(file), size)
        if start[:4] == b"RIFF":
            return _missing(_end_of_chunks(file, size), size)
    if start[:1] == bytes([TS_SYNC]) and path.suffix.lower() in (".ts", ".m2ts", ".mts"):
        return None if any(size % each == 0 for each in TS_PACKETS) else "is not whole: its last packet is cut off"
    return None


def is_animated_webp(path: Path) -> bool:
    """Whether a file is WebP with several pictures (RFC 9649), which FFmpeg takes for a damaged one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(21)
    return len(head) == 21 and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & WEBP_ANIMATION)


def lacks_index(path: Path) -> bool:
    """Whether an MP4 or MOV has no index (moov), which is written last: it was never finished, or is cut off."""
    if not path.is_file():
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"mdat", b"wide", b"free"):
            return False
        position, kinds = 0, set[bytes]()
        while position < size and (box := box_at(file, position)) is not None:
            position += box[1]
            kinds.add(box[0])
    return b"moov" not in kinds


def _missing(end: int | None, size: int) -> str | None:
    if end is None or end <= size:
        return None
    return f"is not whole: {end - size} of {end} bytes are missing at its end"


def box_at(file: BinaryIO, position: int) -> tuple[bytes, int, int] | None:
    """The type, the length and the header's length of a box; None where none begins there, or it reaches to the end."""
    file.seek(position)
    head = file.read(16)
    length, kind, header = int.from_bytes(head[:4]), head[4:8], 8
    if length == 1:
        length, header = int.from_bytes(head[8:16]), 16
    return (kind, length, header) if length >= header and kind.isascii() else None


def _end_of_boxes(file: BinaryIO, size: int) -> int | None:
    position = 0
    while position < size:
        box = box_at(file, position)
        if box is None:
            return None
        position += box[1]
    return position


def _end_of_chunks(file: BinaryIO, size: int) -> int | None:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        kind, length = file.read(4), int.from_bytes(file.read(4), "little")
        if kind != b"RIFF" or not length:  # or nobody wrote how long it is
            return None
        position += 8 + length + length % 2
    return position


def _end_of_segment(file: BinaryIO) -> int | None:
    file.seek(4)
    header = variable_length(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != SEGMENT:
        return None
    length = variable_length(file)
    return None if length is None else file.tell() + length


def variable_length(file: BinaryIO) -> int | None:
    """An element's length; None where it is not known (all ones)."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more)) & (1 << 7 * (more + 1)) - 1
    return None if value == (1 << 7 * (more + 1)) - 1 else value
