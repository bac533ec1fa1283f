"""What FFmpeg passes over in a damaged file is told, and a pause of the camera is not."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.arrays import Pixels
from pipeline.sources.gaps import FileGaps
from tests.pipeline.made_captures import Read
from tests.pipeline.made_clips import drawn, write_clip

STEP, HEAD = 40, 7  # units of the stream, and bytes between two packets
PICTURES, LOST = 200, range(90, 100)


def sizes(seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(500, 3000) for _ in range(PICTURES)]


def noisy(index: int, size: tuple[int, int]) -> Pixels:
    """A picture that takes some kilobytes."""
    return np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), np.uint8) // 4 + drawn(index, size) // 2


def lost(packets: Iterator[tuple[int, int, int]]) -> int:
    """What is told to be lost of packets: decoding time, first byte, bytes."""
    gaps = FileGaps()
    for dts, begin, size in packets:
        gaps.reached(dts, begin, size)
    return gaps.lost


def recorded(missing: range = range(0), filmed: bool = True, sound: int = 0) -> Iterator[tuple[int, int, int]]:
    """A file's packets, with ``sound`` bytes a picture, but for the missing ones; ``filmed``: these are in the file."""
    begin = 1000
    for index, size in enumerate(sizes()):
        if index not in missing:
            yield index * STEP, begin, size
        begin += HEAD + sound + (size if index not in missing or filmed else 0)


@pytest.mark.parametrize("sound", [0, 700])
def test_pictures_that_were_filmed_and_do_not_come_are_lost(sound: int) -> None:
    assert lost(recorded(LOST, sound=sound)) == len(LOST) * STEP


def test_one_picture_is_lost() -> None:
    assert lost(recorded(range(50, 51))) == STEP


@pytest.mark.parametrize("sound", [0, 700])
def test_a_pause_of_the_camera_is_no_loss(sound: int) -> None:
    assert lost(recorded()) == lost(recorded(sound=sound)) == 0
    assert lost(recorded(LOST, filmed=False, sound=sound)) == 0


def test_sound_that_comes_in_pieces_is_no_loss() -> None:
    def in_pieces() -> Iterator[tuple[int, int, int]]:
        for dts, begin, size in recorded(LOST, filmed=False):
            yield dts, begin + dts // STEP // 25 * 20_000, size

    assert lost(in_pieces()) == 0


def test_pictures_of_one_page_have_its_place() -> None:
    """Of Ogg and WMV; a page is lost."""
    pages = ((index * STEP, index // 10 * 16_000, 1500) for index in range(PICTURES))
    assert lost(pages) == 0
    pages = ((index * STEP, index // 10 * 16_000, 1500) for index in range(PICTURES) if index not in LOST)
    assert lost(pages) == len(LOST) * STEP


@given(st.lists(st.integers(1, 500), min_size=20, max_size=100))
def test_pictures_that_come_when_they_like_are_never_lost(steps: list[int]) -> None:
    def packets() -> Iterator[tuple[int, int, int]]:
        dts = begin = 0
        for step in steps:
            dts, begin = dts + step, begin + 1000 + HEAD
            yield dts, begin, 1000

    assert lost(packets()) == 0


def test_times_and_places_that_are_not_known_tell_nothing() -> None:
    gaps = FileGaps()
    for index in range(PICTURES):
        unknown = index % 12 < 6  # as in MPEG's program streams, which have times for some
        gaps.reached(None if unknown else index * STEP, index * 1000, 900)
    assert gaps.lost == 0


@pytest.mark.parametrize("late", range(-4, 5))
def test_a_gap_in_times_may_be_some_packets_beside_that_of_the_bytes(late: int) -> None:
    """Where pictures are reordered times are late; a page of WMV tells of its first picture where it begins."""

    def packets() -> Iterator[tuple[int, int, int]]:
        for index, (_, begin, size) in enumerate(recorded(LOST)):
            yield (index + (index >= LOST.start + late) * len(LOST)) * STEP, begin, size

    assert lost(packets()) == len(LOST) * STEP


def test_a_pause_beside_the_few_pieces_of_sound_of_a_short_clip_is_no_loss() -> None:
    pieces = {25: 20_000, 51: 20_000, 75: 20_000}

    def packets() -> Iterator[tuple[int, int, int]]:
        begin = 0
        for index, size in enumerate(sizes()[:100]):
            begin += HEAD + pieces.get(index, 0)
            yield (index + (index >= 50) * 5) * STEP, begin, size
            begin += size

    assert lost(packets()) == 0


@pytest.mark.parametrize(
    ("name", "codec", "reordered", "most"),
    [
        *((name, "libx264", 0, 190) for name in ("clip.mkv", "clip.flv", "clip.ts", "clip.avi")),
        ("clip.mkv", "libx264", 2, 190),
        ("clip.avi", "mpeg4", 0, 200),  # decodes what is left of its pictures
        ("clip.wmv", "wmv2", 0, 200),
    ],
)
def test_a_hole_in_a_file_is_told(tmp_path: Path, name: str, codec: str, reordered: int, most: int) -> None:
    options = {"g": "10"} | ({"bf": str(reordered)} if codec == "libx264" else {})
    path = write_clip(tmp_path / name, 200, size=(320, 240), codec=codec, options=options, draw=noisy)
    assert Read(path).end == ("end of the file after 200 frames", "all")
    content = bytearray(path.read_bytes())
    hole = slice(len(content) // 2, len(content) // 2 + len(content) // 10)
    content[hole] = bytes(len(content) // 10)
    path.write_bytes(content)
    read = Read(path)
    assert read.captured < most
    cause, outcome = read.end
    assert outcome == "part"
    assert "is not whole: " in cause
