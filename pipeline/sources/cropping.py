"""What a container crops, which neither FFmpeg's decoders do nor PyAV tells: found in the file's header, to be told."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from pipeline.sources.whole import EBML, SEGMENT, box_at, variable_length

NOTE: Final = "cropping of the container not applied"
# ISO/IEC 14496-12: the boxes on the way to the sample entries, and a visual one's own fields, with its size among them.
WAY: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
ENTRY: Final = 86  # bytes, with its header
# RFC 9559: elements by their identifiers.
TRACKS, TRACK, VIDEO, CLUSTER = b"\x16\x54\xae\x6b", b"\xae", b"\xe0", b"\x1f\x43\xb6\x75"
PIXEL_CROP: Final = (b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd")  # bottom, top, left, right
MAX_PARTS: Final = 10_000  # that are looked at: a header is small, and what is made to have more is not worth it


class _Part(NamedTuple):
    """A box or an element."""

    kind: bytes
    begin: int  # of what is in it
    end: int


def crops(path: Path) -> bool:
    """Whether the container of a file says that its pictures are to be cropped: MP4 and MOV, Matroska and WebM."""
    if not path.is_file():
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start[4:] == b"ftyp":
            return _clap_in(file, _Part(b"", 0, size), WAY)
        return start[:4] == EBML and _pixel_crop_in(file, size)


def _clap_in(file: BinaryIO, whole: _Part, way: tuple[bytes, ...]) -> bool:
    if way:
        return any(_clap_in(file, box, way[1:]) for box in _boxes(file, whole) if box.kind == way[0])
    for table in _boxes(file, whole):
        if table.kind != b"stsd":
            continue
        for entry in _boxes(file, table._replace(begin=table.begin + 8)):
            file.seek(entry.begin + 24)
            size = file.read(4)
            for box in _boxes(file, entry._replace(begin=entry.begin + ENTRY - 8)):
                if box.kind == b"clap":
                    file.seek(box.begin)
                    numbers = [int.from_bytes(file.read(4)) for _ in range(4)]
                    sides = int.from_bytes(size[:2]), int.from_bytes(size[2:])
                    return any(
                        over and 0 < part < side * over
                        for part, over, side in zip(numbers[::2], numbers[1::2], sides, strict=True)
                    )
    return False


def _boxes(file: BinaryIO, inside: _Part) -> Iterator[_Part]:
    position = inside.begin
    for _ in range(MAX_PARTS):
        if position + 8 > inside.end or (box := box_at(file, position)) is None:
            return
        kind, length, header = box
        yield _Part(kind, position + header, min(position + length, inside.end))
        position += length


def _pixel_crop_in(file: BinaryIO, size: int) -> bool:
    for segment in _elements(file, _Part(b"", 0, size)):
        if segment.kind != SEGMENT:
            continue
        for tracks in _elements(file, segment):
            if tracks.kind == CLUSTER:
                return False
            if tracks.kind == TRACKS:
                videos = (
                    video
                    for track in _elements(file, tracks)
                    if track.kind == TRACK
                    for video in _elements(file, track)
                    if video.kind == VIDEO
                )
                return any(_crops_by(file, part) for video in videos for part in _elements(file, video))
    return False


def _crops_by(file: BinaryIO, part: _Part) -> bool:
    file.seek(part.begin)
    return part.kind in PIXEL_CROP and any(file.read(part.end - part.begin))


def _elements(file: BinaryIO, inside: _Part) -> Iterator[_Part]:
    position = inside.begin
    for _ in range(MAX_PARTS):
        file.seek(position)
        first = file.read(1)
        if position >= inside.end or not first or not first[0]:
            return
        kind = first + file.read(8 - first[0].bit_length())
        length = variable_length(file)
        begin = file.tell()
        end = inside.end if length is None else min(begin + length, inside.end)
        yield _Part(kind, begin, end)
        position = end
