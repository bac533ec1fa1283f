"""What a container crops, which neither FFmpeg's decoders do nor PyAV tells: found in the file's header, to be told."""

from pathlib import Path
from typing import BinaryIO, Final

from pipeline.sources.containers import CLUSTER, EBML, SEGMENT, FilePart, boxes, elements

NOTE: Final = "cropping of the container not applied"
# ISO/IEC 14496-12: the boxes on the way to the sample entries, and a visual one's own fields, with its size among them.
WAY: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
TABLE, FIELDS, SIZE = 8, 78, 24  # bytes before the entries of a table, and of one's fields, and before its size
# RFC 9559: elements by their identifiers.
TRACKS, TRACK, VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
PIXEL_CROP: Final = (b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd")  # bottom, top, left, right


def crops(path: Path) -> bool:
    """Whether the container of a file says that its pictures are to be cropped: MP4 and MOV, Matroska and WebM."""
    if not path.is_file():
        return False
    whole = FilePart(b"", 0, path.stat().st_size)
    with path.open("rb") as file:
        start = file.read(8)
        if start[4:] == b"ftyp":
            return _clap_in(file, whole, WAY)
        return start[:4] == EBML and _pixel_crop_in(file, whole)


def _clap_in(file: BinaryIO, inside: FilePart, way: tuple[bytes, ...]) -> bool:
    if way:
        return any(_clap_in(file, box, way[1:]) for box in boxes(file, *inside[1:]) if box.kind == way[0])
    for entry in boxes(file, inside.begin + TABLE, inside.end):
        for box in boxes(file, entry.begin + FIELDS, entry.end):
            if box.kind == b"clap":
                numbers = _numbers(file, box.begin, 4, 4)
                sides = _numbers(file, entry.begin + SIZE, 2, 2)
                return any(
                    over and 0 < part < side * over
                    for part, over, side in zip(numbers[::2], numbers[1::2], sides, strict=True)
                )
    return False


def _numbers(file: BinaryIO, begin: int, size: int, count: int) -> list[int]:
    file.seek(begin)
    return [int.from_bytes(file.read(size)) for _ in range(count)]


def _pixel_crop_in(file: BinaryIO, whole: FilePart) -> bool:
    for segment in elements(file, *whole[1:]):
        if segment.kind != SEGMENT:
            continue
        for tracks in elements(file, *segment[1:]):
            if tracks.kind == CLUSTER:
                return False
            if tracks.kind == TRACKS:
                return any(
                    _crops_by(file, part)
                    for track in elements(file, *tracks[1:])
                    if track.kind == TRACK
                    for video in elements(file, *track[1:])
                    if video.kind == VIDEO
                    for part in elements(file, *video[1:])
                )
    return False


def _crops_by(file: BinaryIO, part: FilePart) -> bool:
    file.seek(part.begin)
    return part.kind in PIXEL_CROP and any(file.read(min(part.end - part.begin, 8)))
