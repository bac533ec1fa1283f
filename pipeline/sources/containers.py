"""The parts of files: boxes of MP4 and MOV (ISO/IEC 14496-12), elements of Matroska and WebM (RFC 9559)."""

from collections.abc import Iterator
from os import SEEK_END
from typing import BinaryIO, Final, NamedTuple

MAX_PARTS: Final = 100_000  # of one level that are looked at: what is made to have more is not worth it
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # a file's first element, and the one that all is in
CLUSTER: Final = b"\x1f\x43\xb6\x75"  # of blocks


class FilePart(NamedTuple):
    """A box or an element."""

    kind: bytes
    begin: int  # of what is in it
    end: int  # as its header says: a file that was cut is shorter


def boxes(file: BinaryIO, begin: int, end: int) -> Iterator[FilePart]:
    """The boxes from ``begin`` on, up to the first that is none, or that reaches to the end of the file."""
    end = min(end, file.seek(0, SEEK_END))
    for _ in range(MAX_PARTS):
        if begin >= end:
            return
        file.seek(begin)
        head = file.read(16)
        length, kind, header = int.from_bytes(head[:4]), head[4:8], 8
        if length == 1:
            length, header = int.from_bytes(head[8:16]), 16
        if length < header or not kind.isascii():
            return
        yield FilePart(kind, begin + header, begin + length)
        begin += length


def elements(file: BinaryIO, begin: int, end: int) -> Iterator[FilePart]:
    """The elements from ``begin`` on; one without a length lasts to ``end``."""
    end = min(end, file.seek(0, SEEK_END))
    for _ in range(MAX_PARTS):
        if begin >= end:
            return
        file.seek(begin)
        first = file.read(1)
        if not first[0]:
            return
        kind = first + file.read(8 - first[0].bit_length())
        length = _length(file)
        inside = file.tell()
        begin = end if length is None else inside + length
        yield FilePart(kind, inside, begin)


def _length(file: BinaryIO) -> int | None:
    """An element's length; None where it is not known (all ones)."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    bits = 7 * (9 - first[0].bit_length())
    value = int.from_bytes(first + file.read(bits // 7 - 1)) & (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value
