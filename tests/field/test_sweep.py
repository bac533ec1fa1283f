"""A hundred made clips, odd in every way that we know, are read as ffmpeg reads them."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import pytest

from tests.field.sweep import Row, swept
from tests.pipeline.made_clips import ONE, write_clip

FRAMES = 16
NO_REORDERING = {"bf": "0"}
REORDERING = {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=normal:scenecut=0"}
SIZE = (64, 64)

CONTAINERS = {
    "libx264": ("mp4", "mkv", "ts", "avi", "mov", "flv", "h264", "nut", "3gp", "mxf"),
    "libx265": ("mp4", "mkv", "ts"),
    "mpeg4": ("mp4", "avi", "mkv", "mov"),
    "mpeg2video": ("ts", "mpg", "mkv"),
    "mjpeg": ("avi", "mkv", "mov"),
    "libvpx": ("webm", "mkv"),
    "libvpx-vp9": ("webm", "mp4"),
    "ffv1": ("mkv", "nut"),
    "flv": ("flv",),
}
OPTIONS = {"libx265": {"x265-params": "log-level=none"}, "mjpeg": {"strict": "unofficial"}}
RATES = {"mpeg2video": (25, 50)}  # those that the format knows
HOUR = 25 * 3600  # frames
TROUBLES: dict[str, tuple[tuple[str, ...], Callable[[int], int]]] = {
    "twice": (("mkv",), lambda index: index - (index == 10)),
    "an hour ahead": (("mkv", "ts", "mp4"), lambda index: index + (index >= 9) * HOUR),
    "begins late": (("mkv", "ts", "mp4"), lambda index: index + 10**5),
}
JOINED = {"begins again": 0, "a day back": -24 * HOUR, "ten hours ahead": 10 * HOUR}  # of two MPEG-TS, frames


MATRICES = {
    "0": (ONE, 0, 0, 0, ONE, 0),
    "90": (0, ONE, 0, -ONE, 0, 0),
    "180": (-ONE, 0, 0, 0, -ONE, 0),
    "270": (0, -ONE, 0, ONE, 0, 0),
    "mirrored": (-ONE, 0, 0, 0, ONE, 0),
    "upside down": (ONE, 0, 0, 0, -ONE, 0),
    "transposed": (0, ONE, 0, ONE, 0, 0),
    "transversed": (0, -ONE, 0, -ONE, 0, 0),
}
ASPECTS = (Fraction(2), Fraction(1, 2), Fraction(16, 11), Fraction(12, 11))


@dataclass(frozen=True)
class Clip:
    """One of the hundred."""

    name: str
    rate: int = 25
    settings: dict[str, Any] = field(default_factory=dict)
    joined: int | None = None  # of two halves; how many frames the time stamps of the second are moved


def clips() -> Iterator[Clip]:
    for codec, suffixes in CONTAINERS.items():
        for suffix in suffixes:
            for rate in RATES.get(codec, (10, 25, 60) if suffix not in ("3gp", "mxf") else (25,)):
                yield Clip(f"{codec}_{rate}.{suffix}", rate, {"codec": codec, "options": OPTIONS.get(codec)})
    for suffix in CONTAINERS["libx264"]:
        yield Clip(f"reordered.{suffix}", 25, {"options": REORDERING})
    for trouble, (suffixes, stamps) in TROUBLES.items():
        for suffix in suffixes:
            yield Clip(f"{trouble}.{suffix}", 25, {"stamps": stamps, "options": NO_REORDERING})
    for trouble, shift in JOINED.items():
        yield Clip(f"{trouble}.ts", 25, {"options": NO_REORDERING}, joined=shift)
    for name, numbers in MATRICES.items():
        matrix = (*numbers[:2], 0, *numbers[3:5], 0, 0, 0, 1 << 30)
        yield Clip(f"turned {name}.mp4", 25, {"matrix": matrix})
        yield Clip(f"turned {name}, pixels 3 to 2.mp4", 25, {"matrix": matrix, "aspect": Fraction(3, 2)})
    for aspect in ASPECTS:
        yield Clip(f"pixels {aspect.numerator} to {aspect.denominator}.mkv", 25, {"aspect": aspect})
    for share, broken in (("a few", range(5, 8)), ("every fourth", range(3, FRAMES, 4)), ("the last", [FRAMES - 1])):
        yield Clip(f"broken {share}.mkv", 25, {"broken": list(broken), "options": NO_REORDERING})


def write(folder: Path, clip: Clip) -> None:
    path = folder / clip.name
    if clip.joined is None:
        write_clip(path, FRAMES, SIZE, clip.rate, **clip.settings)
        return
    begin = max(0, -clip.joined)
    halves = []
    for first in (begin, begin + clip.joined):
        write_clip(path, FRAMES // 2, SIZE, clip.rate, stamps=partial(add, first), **clip.settings)
        halves.append(path.read_bytes())
    path.write_bytes(b"".join(halves))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    folder = tmp_path_factory.mktemp("field")
    made = list(clips())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(write, folder), made))
    return {row.clip: row for row in swept([folder / clip.name for clip in made])}


def test_there_are_a_hundred() -> None:
    assert len({clip.name for clip in clips()}) == len(list(clips())) >= 100


def test_each_clip_is_read_as_ffmpeg_reads_it(rows: dict[str, Row]) -> None:
    assert {name: row.verdict for name, row in rows.items() if row.verdict != "ok"} == {}


def test_all_packets_are_accounted_for(rows: dict[str, Row]) -> None:
    for clip in clips():
        row = rows[clip.name]
        missed = sum(int(part.split()[0]) for part in row.missed.split(", ") if part)
        assert row.frames + missed == FRAMES, row
        assert bool(missed) == ("broken" in clip.settings), row


def test_each_clip_lasts_as_long_as_its_frames(rows: dict[str, Row]) -> None:
    for clip in clips():
        if "broken" not in clip.settings:
            assert rows[clip.name].duration_s == pytest.approx(FRAMES / clip.rate, abs=1.1 / clip.rate), rows[clip.name]
