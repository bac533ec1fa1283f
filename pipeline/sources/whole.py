"""Whether a file is as long as its own headers say, from its bytes."""

from pathlib import Path
from typing import Final

from pipeline.sources.containers import EBML
from pipeline.sources.ends import (
    OGG,
    RIFF,
    BytesAsked,
    BytesSeen,
    Looks,
    end_of_asf,
    end_of_boxes,
    end_of_elements,
    end_of_pages,
    end_of_records,
    end_of_riff,
    ts_packet,
)

HEAD: Final = 12  # bytes that tell what a file is
BLOCK: Final = 2**16  # bytes that are looked at together
WEBP_ANIMATION: Final = 0x02
ASF, FLV = bytes.fromhex("3026b2758e66cf11"), b"FLV"
FLV_KIND, FLV_KINDS = 0x1F, (8, 9, 18)  # of tags: sound, video, data
IVF: Final = b"DKIF"
BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # that MP4 and MOV begin with
INDEXES: Final = (b"moov", b"meta")  # of video, of pictures
JPEG, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", 0xDA, b"\xff\xd9"
GIF, GIF_END = b"GIF8", b"\x3b"
DV, DV_625, DV_FRAMES = b"\x1f\x07\x00", 0x80, (120_000, 144_000)  # bytes of a frame: of 525 lines, of 625


def cut_short(path: Path) -> str | None:
    """Say what is missing of a file whose end is not there; None where it is whole, or does not tell.

    MP4 and MOV, Matroska and WebM, AVI, WMV, FLV, IVF, Ogg, MPEG-TS, DV, GIF and JPEG tell.
    """
    if not path.is_file():
        return None
    looks = _missing()
    with path.open("rb") as file:
        size = path.stat().st_size
        look = next(looks)
        while True:
            file.seek(look.begin if look.begin >= 0 else max(0, size + look.begin))
            data = file.read(look.size)
            try:
                look = looks.send(BytesSeen(data, file.tell()))
            except StopIteration as told:
                missing: str | None = told.value
                return missing


class WholeStream:
    """Says the same as :func:`cut_short` of bytes that come once, from the first to the last."""

    def __init__(self) -> None:
        self._looks = _missing()
        self._look: BytesAsked | None = next(self._looks)
        self._kept, self._end = b"", 0  # bytes that may be asked for, and where they end
        self._missing: str | None = None

    def took(self, data: bytes) -> None:
        """The next bytes came."""
        self._kept, self._end = self._kept + data, self._end + len(data)
        while self._look is not None and self._look.begin >= 0 and self._end >= sum(self._look):
            self._answer(self._look)
        begin = self._end if self._look is None else self._look.begin
        kept = -begin if begin < 0 else max(0, self._end - begin)  # from the end, or from where it asks on
        self._kept = self._kept[max(0, len(self._kept) - kept) :]

    def end(self) -> str | None:
        """No more bytes come; say what is missing."""
        while self._look is not None:
            self._answer(self._look)
        return self._missing

    def _answer(self, look: BytesAsked) -> None:
        first = self._end - len(self._kept)
        begin = max(0, (look.begin if look.begin >= 0 else self._end + look.begin) - first)
        data = self._kept[begin : begin + look.size]
        try:
            self._look = self._looks.send(BytesSeen(data, first + begin + len(data)))
        except StopIteration as told:
            self._look, self._missing = None, told.value


def is_animated_webp(path: Path) -> bool:
    """Whether a file is WebP with several pictures (RFC 9649), which FFmpeg takes for a damaged one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(21)
    return len(head) == 21 and head[:4] == RIFF and head[8:16] == b"WEBPVP8X" and bool(head[20] & WEBP_ANIMATION)


def _missing() -> Looks[str | None]:
    start, _ = yield BytesAsked(0, HEAD)
    end, of, kind = 0, 0, "packet"
    if start[4:8] in BOXES:
        end, kinds = yield from end_of_boxes()
        if end and kinds.isdisjoint(INDEXES):
            return "is not whole: its index (moov), which stands at its end, is missing"
    elif start[:4] == EBML:
        end = yield from end_of_elements()
    elif start[:4] == RIFF:
        end = yield from end_of_riff()
    elif start[:3] == FLV:
        end = yield from end_of_records(int.from_bytes(start[5:9]) + 4, 11, 4, _length_of_tag)
    elif start[:4] == IVF:
        end = yield from end_of_records(int.from_bytes(start[6:8], "little"), 12, 0, _length_of_frame)
    elif start[:4] == OGG:
        end = yield from end_of_pages()
    elif start[:8] == ASF:
        end = yield from end_of_asf()
    elif start[:3] == DV:
        of, kind = DV_FRAMES[bool(start[3] & DV_625)], "picture"
    elif start[:4] == GIF:
        tail, _ = yield BytesAsked(-BLOCK, BLOCK)
        return None if tail.rstrip(b"\0").endswith(GIF_END) else "is not whole: its end is missing"
    elif start[:3] == JPEG:
        return None if (yield from _jpeg_ends()) else "is not whole: its end is missing"
    else:
        of = yield from ts_packet()
    _, size = yield BytesAsked(-1, 1)
    if end > size:
        return f"is not whole: at least {end - size} of {end} bytes are missing at its end"
    return f"is not whole: its last {kind} is cut off" if of and size % of else None


def _length_of_tag(head: bytes) -> int | None:
    return int.from_bytes(head[1:4]) if head[0] & FLV_KIND in FLV_KINDS else None


def _length_of_frame(head: bytes) -> int:
    return int.from_bytes(head[:4], "little")


def _jpeg_ends() -> Looks[bool]:
    """Whether the end of the picture is there, after all that comes before it, small pictures in EXIF among it."""
    begin = 2
    while True:
        head, _ = yield BytesAsked(begin, 4)
        if len(head) < 4 or head[0] != JPEG[0]:
            return False
        begin += 2 + int.from_bytes(head[2:])
        if head[1] == JPEG_SCAN:
            break
    while True:
        block, begin = yield BytesAsked(begin, BLOCK)
        if JPEG_END in block or len(block) < BLOCK:
            return JPEG_END in block
        begin -= 1  # the mark may lie across two blocks
