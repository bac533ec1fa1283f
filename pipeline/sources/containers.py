"""The parts of files: boxes of MP4 and MOV (ISO/IEC 14496-12), elements of Matroska and WebM (RFC 9559)."""

from collections.abc import Iterator
from os import SEEK_END
from typing import BinaryIO, Final, NamedTuple

MAX_PARTS: Final = 100_000  # of one level that are looked at: what is made to have more is not worth it
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # a file's first element, and the one that all is in
CLUSTER: Final = b"\x1f\x43\xb6\x75"  # of blocks
BOX_HEADER, ELEMENT_HEADER = 16, 12  # bytes, at most


class PartHeader(NamedTuple):
    """What a part begins with."""

    kind: bytes
    size: int  # of the header, also where it is cut
    length: int | None  # of what is in the part; None: it is not known


class FilePart(NamedTuple):
    """A box or an element."""

    kind: bytes
    begin: int  # of what is in it
    end: int  # as its header says: a file that was cut is shorter


def box_header(head: bytes) -> PartHeader | None:
    """The header that these bytes begin with; None where there is none, or the box lasts to the end of the file."""
    length, kind, size = int.from_bytes(head[:4]), head[4:8], 8
    if length == 1:
        length, size = int.from_bytes(head[8:16]), 16
    return PartHeader(kind, size, length - size) if length >= size and kind.isascii() else None


def element_header(head: bytes) -> PartHeader | None:
    """The header that these bytes begin with; None where there is none."""
    if not head or not head[0] >> 4:  # a kind has four bytes at most
        return None
    of_kind = 9 - head[0].bit_length()
    of_length = 9 - head[of_kind].bit_length() if len(head) > of_kind else 1
    size, largest = of_kind + of_length, (1 << 7 * of_length) - 1
    length = int.from_bytes(head[of_kind:size]) & largest
    return PartHeader(head[:of_kind], size, None if of_length > 8 or length == largest else length)


def boxes(file: BinaryIO, begin: int, end: int) -> Iterator[FilePart]:
    """The boxes from ``begin`` on, up to the first that is none, or that reaches to the end of the file."""
    end = min(end, file.seek(0, SEEK_END))
    for _ in range(MAX_PARTS):
        if begin >= end:
            return
        file.seek(begin)
        if (header := box_header(file.read(BOX_HEADER))) is None:
            return
        inside, begin = begin + header.size, begin + header.size + (header.length or 0)
        yield FilePart(header.kind, inside, begin)


def elements(file: BinaryIO, begin: int, end: int) -> Iterator[FilePart]:
    """The elements from ``begin`` on; one without a length lasts to ``end``."""
    end = min(end, file.seek(0, SEEK_END))
    for _ in range(MAX_PARTS):
        if begin >= end:
            return
        file.seek(begin)
        if (header := element_header(file.read(ELEMENT_HEADER))) is None:
            return
        inside = begin + header.size
        begin = end if header.length is None else inside + header.length
        yield FilePart(header.kind, inside, begin)
