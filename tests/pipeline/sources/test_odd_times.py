"""Files whose time stamps are odd: they last as long as they were recorded."""

import time
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.made_captures import Read
from tests.pipeline.made_clips import write_clip

HOUR = 3600
NO_REORDERING = {"bf": "0"}


@pytest.mark.parametrize(
    ("case", "before", "after"),
    [
        ("begin again in the middle", 0, 0),
        ("jump ahead by an hour", 0, 10 * HOUR),
        ("jump back by 20 hours: MPEG-TS counts up to 26", 200 * HOUR, 0),
    ],
)
def test_a_break_costs_one_normal_step(tmp_path: Path, case: str, before: int, after: int) -> None:
    halves = [
        write_clip(tmp_path / name, 50, rate=10, options=NO_REORDERING, stamps=stamps).read_bytes()
        for name, stamps in (("a.ts", lambda index: before + index), ("b.ts", lambda index: after + index))
    ]
    clip = tmp_path / "clip.ts"
    clip.write_bytes(b"".join(halves))
    read = Read(clip)
    assert read.times_s == pytest.approx([index / 10 for index in range(100)], abs=1e-3)
    assert read.end == ("end of the file after 100 frames", "all")


@pytest.mark.parametrize("pace", ["realtime", "camera"])
def test_no_pace_waits_for_a_break(tmp_path: Path, pace: str) -> None:
    clip = write_clip(
        tmp_path / "clip.ts", 10, options=NO_REORDERING, stamps=lambda index: index + (index >= 5) * 25 * HOUR
    )
    began_s = time.monotonic()
    assert len(Read(clip, pace=pace).frames) == 10
    assert time.monotonic() - began_s < 20


def test_one_time_twice_costs_the_other_frames_nothing(tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "clip.mkv", 100, rate=60, options=NO_REORDERING, stamps=lambda index: index - (index == 10)
    )
    times_s = Read(clip).times_s
    own = [index for index in range(100) if index != 10]
    assert [times_s[index] for index in own] == pytest.approx([index / 60 for index in own], abs=1.1e-3)
    assert times_s[9] < times_s[10] < times_s[11]


@pytest.mark.parametrize("rate", [10, 60])
def test_without_time_stamps_the_rate_is_the_codecs(tmp_path: Path, rate: int) -> None:
    read = Read(write_clip(tmp_path / "clip.h264", 40, rate=rate))
    assert read.times_s == pytest.approx([index / rate for index in range(40)])


def test_where_nothing_tells_a_rate_the_settings_do(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.h264", 10, rate=60, options={"x264-params": "force-cfr=0:vui=0:no-vui=1"})
    assert np.diff(Read(clip, rate_hz=5.0).times_s) == pytest.approx(0.2)
