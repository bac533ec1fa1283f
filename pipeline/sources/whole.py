"""Whether a file is as long as its own headers say."""

from pathlib import Path
from typing import BinaryIO, Final

from pipeline.sources.containers import EBML, SEGMENT, boxes, elements

TS_PACKETS: Final = (188, 192, 204)  # bytes: ISO/IEC 13818-1, with a time stamp before each, with error correction
TS_SYNC: Final = b"\x47"
WEBP_ANIMATION: Final = 0x02


def cut_short(path: Path) -> str | None:
    """Say what is missing of a file whose end is not there; None where it is whole, or does not tell.

    MP4 and MOV, Matroska and WebM, AVI and MPEG-TS tell.
    """
    if not path.is_file():
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        end = _end(file, start, size)
    if end > size:
        return f"is not whole: {end - size} of {end} bytes are missing at its end"
    if start[:1] == TS_SYNC and path.suffix.lower() in (".ts", ".m2ts", ".mts") and all(size % of for of in TS_PACKETS):
        return "is not whole: its last packet is cut off"
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
    with path.open("rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"mdat", b"wide", b"free"):
            return False
        return all(box.kind != b"moov" for box in boxes(file, 0, path.stat().st_size))


def _end(file: BinaryIO, start: bytes, size: int) -> int:
    """Where a file with this start ends, as it says; 0 where it does not."""
    if start[4:8] == b"ftyp":
        return max((box.end for box in boxes(file, 0, size)), default=0)
    if start[:4] == EBML:
        return next((part.end for part in elements(file, 0, size) if part.kind == SEGMENT), 0)
    end = 0
    while start[:4] == b"RIFF" and (length := int.from_bytes(start[4:8], "little")):  # 0: nobody wrote how long it is
        end += 8 + length + length % 2
        if end >= size:
            return end
        file.seek(end)  # AVI of more than a gigabyte has several
        start = file.read(8)
    return 0
