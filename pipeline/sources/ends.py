"""Where files end, as their own parts say, from a few of their bytes: read where they lie, or seen as they come.

MP4 and MOV, Matroska and WebM, RIFF, FLV, Ogg (RFC 3533), ASF, MPEG-TS (ISO/IEC 13818-1). Each function asks for bytes
from the first to the last, and returns where the file ends, at least; 0 where it does not tell.
"""

from collections.abc import Callable, Generator
from typing import Final, NamedTuple, TypeAlias, TypeVar

from pipeline.sources.containers import BOX_HEADER, CLUSTER, ELEMENT_HEADER, SEGMENT, box_header, element_header

MAX_PARTS: Final = 500_000  # that are looked at: what has more does not tell
RIFF, LIST = b"RIFF", b"LIST"
RIFF_UNKNOWN: Final = (0, 2**32 - 1)  # lengths that nobody wrote
OGG: Final = b"OggS"
OGG_PAGE: Final = 27 + 255 + 255 * 255  # bytes, at most
# ASF: the object that has the file's length, and where in that; a flag of what was sent live; the length of a packet;
# bytes between the header and the first packet; and what the index begins with, which may follow the last.
ASF_FILE: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_INDEX: Final = bytes.fromhex("90080033b1e5cf1189f400a0c90349cb")
ASF_LENGTH, ASF_FLAGS, ASF_LIVE = 16 + 8 + 16, 16 + 8 + 16 + 6 * 8, 1
ASF_PACKET, ASF_DATA = ASF_FLAGS + 4, 16 + 8 + 16 + 8 + 2
ASF_HEAD: Final = 2**16  # bytes in which that object lies
# Bytes of a packet, and where its sync byte is: plain, with a time stamp before each, with error correction.
TS_PACKETS: Final = ((188, 0), (192, 4), (204, 0))
TS_SYNC: Final = b"\x47"
TS_LOOKED_AT: Final = 4  # packets


class BytesAsked(NamedTuple):
    """Asks for bytes of a file, none of them before those that were asked for last."""

    begin: int  # the first of them; negative: counted from the end, after which only such follow
    size: int


class BytesSeen(NamedTuple):
    """The bytes; fewer where the file ends."""

    data: bytes
    end: int  # where they end in the file


T = TypeVar("T")
Looks: TypeAlias = Generator[BytesAsked, BytesSeen, T]


def end_of_boxes() -> Looks[tuple[int, set[bytes]]]:
    """Of MP4 and MOV, with the kinds of the boxes; a box that has no length lasts to the end."""
    begin, kinds = 0, set[bytes]()
    for _ in range(MAX_PARTS):
        head, _ = yield BytesAsked(begin, BOX_HEADER)
        if (header := box_header(head)) is None:
            return begin, kinds
        kinds.add(header.kind)
        begin += header.size + (header.length or 0)
    return 0, kinds


def end_of_elements() -> Looks[int]:
    """Of Matroska; where a segment or a cluster has no length, as what is sent live, by the parts of it."""
    begin = 0
    for _ in range(MAX_PARTS):
        head, _ = yield BytesAsked(begin, ELEMENT_HEADER)
        if (header := element_header(head)) is None:
            return begin
        if header.size > max(len(head), ELEMENT_HEADER):
            return 0
        if header.size > len(head):
            return begin + header.size
        begin += header.size + (header.length or 0)
        if header.length is not None and header.kind == SEGMENT:
            return begin
        if header.length is None and header.kind not in (SEGMENT, CLUSTER):
            return 0
    return 0


def end_of_riff() -> Looks[int]:
    """Of AVI, of which a large one has several parts; where nobody wrote how long these are, by the chunks in them."""
    begin, inside = 0, False
    for _ in range(MAX_PARTS):
        head, _ = yield BytesAsked(begin, 8)
        kind, length = head[:4], int.from_bytes(head[4:], "little")
        if not kind.isalnum() or not (inside or kind == RIFF):
            return begin
        if kind in (RIFF, LIST) and length in RIFF_UNKNOWN:
            begin, inside = begin + 12, True
        else:
            begin += 8 + length + length % 2
    return 0


def end_of_records(begin: int, header: int, after: int, length: Callable[[bytes], int | None]) -> Looks[int]:
    """Of FLV and IVF: one after another, each with a header that tells its length.

    Args:
        begin: of the first.
        header: its bytes.
        after: bytes after what is in each, which the last may lack.
        length: of what is in it, by its header; None: it is none.
    """
    for _ in range(MAX_PARTS):
        head, _ = yield BytesAsked(begin, header)
        if not head or (inside := length(head)) is None:
            return begin - after
        begin += header + inside + after
    return 0


def end_of_pages() -> Looks[int]:
    """Of Ogg: where its last page ends."""
    tail, size = yield BytesAsked(-OGG_PAGE, OGG_PAGE)
    page = tail.rfind(OGG)
    segments = tail[page + 27 : page + 27 + tail[page + 26]] if 0 <= page < len(tail) - 26 else b""
    return size - len(tail) + page + 27 + len(segments) + sum(segments) if segments else 0


def end_of_asf() -> Looks[int]:
    """Of ASF, which WMV is; of what was sent live by its packets, all of the same length."""
    head, _ = yield BytesAsked(0, ASF_HEAD)
    found = head.find(ASF_FILE)
    if found < 0 or len(head) < found + ASF_PACKET + 4:
        return 0
    if not head[found + ASF_FLAGS] & ASF_LIVE:
        return int.from_bytes(head[found + ASF_LENGTH : found + ASF_LENGTH + 8], "little")
    first = int.from_bytes(head[16:24], "little") + ASF_DATA
    packet = int.from_bytes(head[found + ASF_PACKET : found + ASF_PACKET + 4], "little")
    if not packet:
        return 0
    return (
        yield from end_of_records(
            first, len(ASF_INDEX), 0, lambda head: None if head == ASF_INDEX else packet - len(ASF_INDEX)
        )
    )


def ts_packet() -> Looks[int]:
    """The bytes of a packet of MPEG-TS; 0 where it is none."""
    head, _ = yield BytesAsked(0, TS_LOOKED_AT * max(TS_PACKETS)[0])
    for size, at in TS_PACKETS:
        if head[at : TS_LOOKED_AT * size : size] == TS_LOOKED_AT * TS_SYNC:
            return size
    return 0
