"""Whether a file is as long as its own headers say."""

from os import SEEK_CUR
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.sources.containers import CLUSTER, EBML, SEGMENT, FilePart, boxes, elements

TS_PACKETS: Final = (188, 192, 204)  # bytes: ISO/IEC 13818-1, with a time stamp before each, with error correction
TS_SYNC: Final = b"\x47"
WEBP_ANIMATION: Final = 0x02
OGG: Final = b"OggS"
OGG_PAGE: Final = 27 + 255 + 255 * 255  # bytes, at most
# ASF: its first object, the one in it that has the file's length, and where in that; and a flag of what was sent live.
ASF, ASF_FILE = bytes.fromhex("3026b2758e66cf11"), bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_LENGTH, ASF_FLAGS, ASF_LIVE = 16 + 8 + 16, 16 + 8 + 16 + 6 * 8, 1
JPEG, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", 0xDA, b"\xff\xd9"
GIF, GIF_END = b"GIF8", b"\x3b"
DV, DV_625, DV_FRAMES = b"\x1f\x07\x00", 0x80, (120_000, 144_000)  # bytes of a frame: of 525 lines, of 625


def cut_short(path: Path) -> str | None:
    """Say what is missing of a file whose end is not there; None where it is whole, or does not tell.

    MP4 and MOV, Matroska and WebM, AVI, WMV, Ogg, MPEG-TS, DV, GIF and JPEG tell.
    """
    if not path.is_file():
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        end = _end(file, start, size)
        endless = (start[:3] == JPEG and not _jpeg_ends(file)) or (start[:4] == GIF and not _ends_with(file, GIF_END))
    if end > size:
        return f"is not whole: {end - size} of {end} bytes are missing at its end"
    if start[:1] == TS_SYNC and path.suffix.lower() in (".ts", ".m2ts", ".mts") and all(size % of for of in TS_PACKETS):
        return "is not whole: its last packet is cut off"
    if start[:3] == DV and size % DV_FRAMES[bool(start[3] & DV_625)]:
        return "is not whole: its last picture is cut off"
    return "is not whole: its end is missing" if endless else None


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
        return next((_end_of_segment(file, part, size) for part in elements(file, 0, size) if part.kind == SEGMENT), 0)
    if start[:4] == OGG:
        return _end_of_ogg(file, size)
    if start[:8] == ASF:
        return _end_of_asf(file)
    end = 0
    while start[:4] == b"RIFF" and (length := int.from_bytes(start[4:8], "little")):  # 0: nobody wrote how long it is
        end += 8 + length + length % 2
        if end >= size:
            return end
        file.seek(end)  # AVI of more than a gigabyte has several
        start = file.read(8)
    return 0


def _end_of_segment(file: BinaryIO, segment: FilePart, size: int) -> int:
    """Where a segment ends; of one without a length, as what is sent live has them, where the last part of it does."""
    last = segment
    while last.end == size and last.kind in (SEGMENT, CLUSTER):
        *_, inside = last, *elements(file, last.begin, size)
        if inside is last:
            break
        last = inside
    return last.end


def _end_of_ogg(file: BinaryIO, size: int) -> int:
    """Where the last page ends (RFC 3533)."""
    begin = max(0, size - OGG_PAGE)
    file.seek(begin)
    tail = file.read()
    page = tail.rfind(OGG)
    segments = tail[page + 27 : page + 27 + tail[page + 26]] if 0 <= page < len(tail) - 26 else b""
    return begin + page + 27 + len(segments) + sum(segments) if segments else 0


def _end_of_asf(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(2**16)
    found = head.find(ASF_FILE)
    if found < 0 or len(head) <= found + ASF_FLAGS or head[found + ASF_FLAGS] & ASF_LIVE:
        return 0
    return int.from_bytes(head[found + ASF_LENGTH : found + ASF_LENGTH + 8], "little")


def _ends_with(file: BinaryIO, mark: bytes) -> bool:
    file.seek(0)
    return file.read().rstrip(b"\0").endswith(mark)


def _jpeg_ends(file: BinaryIO) -> bool:
    """Whether the end of the picture is there, after all that comes before it, small pictures in EXIF among it."""
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == JPEG[0]:
        file.seek(int.from_bytes(head[2:]) - 2, SEEK_CUR)
        if head[1] == JPEG_SCAN:
            return JPEG_END in file.read()
    return False
