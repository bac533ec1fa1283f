from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError
from pipeline.settings.schema import RecordSettings
from pipeline.sinks.segments import GB, RESERVE, SegmentFolder, segment_name, segments


@given(st.text(min_size=1, max_size=300), st.integers(0, 4_102_444_800_000))
def test_a_name_is_one_file_in_the_folder_whatever_the_stream_is_called(stream: str, at_ms: int) -> None:
    name = segment_name(stream, at_ms)
    assert Path(name).name == name
    assert len(name.encode()) <= 255
    assert "/" not in name
    assert "\0" not in name
    assert name.isascii()


@given(st.lists(st.integers(0, 4_102_444_800_000), min_size=2), st.sampled_from(["a", "z.9", "../b"]))
def test_names_sort_by_time(times: list[int], stream: str) -> None:
    assert sorted(segment_name(stream, at_ms) for at_ms in times) == [
        segment_name(stream, at_ms) for at_ms in sorted(times)
    ]


def test_streams_that_differ_only_far_behind_have_different_files() -> None:
    assert segment_name("x" * 400 + "a", 0) != segment_name("x" * 400 + "b", 0)


def test_segments_are_found_with_their_times(tmp_path: Path) -> None:
    for stream, at_ms in (("yard", 2500), ("door", 1000), ("../door", 3000)):
        (tmp_path / segment_name(stream, at_ms)).write_bytes(b"12")
    (tmp_path / "notes.txt").write_text("mine")
    assert [(segment.started_s, segment.size) for segment in segments(tmp_path)] == [(1.0, 2), (2.5, 2), (3.0, 2)]


def test_files_sort_by_time_though_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = iter([1000.0, 1000.0, 500.0])
    folder = SegmentFolder(RecordSettings(directory=str(tmp_path)), lambda: next(clock))
    made = [folder.new("door") for _ in range(3)]
    assert made == sorted(made)
    assert len(set(made)) == 3


def folder_of(directory: Path, free_gb: float = 100.0, **settings: float) -> SegmentFolder:
    return SegmentFolder(
        RecordSettings(directory=str(directory), **settings), lambda: 1_795_425_247.0, lambda _: round(free_gb * GB)
    )


def test_a_folder_that_can_be_written_is_allowed_and_left_empty(tmp_path: Path) -> None:
    folder_of(tmp_path / "new" / "videos").check()
    assert list((tmp_path / "new" / "videos").iterdir()) == []


def test_a_folder_in_which_no_file_can_be_written_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"record\.directory is '/proc', in which no file can be written: \w+"):
        folder_of(Path("/proc")).check()


def test_a_disk_that_is_too_full_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, free_gb=2.0 + RESERVE / GB, min_free_gb=2.0).check()
    with pytest.raises(ConfigError, match=r"record\.min_free_gb is 2, and with one video 2\.02 GB must be free, but"):
        folder_of(tmp_path, free_gb=1.5).check()


def test_a_disk_that_is_too_full_for_the_videos_of_all_streams_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, free_gb=2.0 + 3 * RESERVE / GB).check(3)
    with pytest.raises(ConfigError, match=r"with 3 videos 2\.05 GB must be free, but only 2\.03 GB are in '.*'; free"):
        folder_of(tmp_path, free_gb=2.03).check(3)


def test_what_no_encoder_is_there_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sinks.segments.codecs_available", {"mpeg4"})
    with pytest.raises(ConfigError, match="this build of PyAV has no encoder libx264: install its wheel"):
        folder_of(tmp_path).check()


def test_what_is_past_its_time_is_deleted_before_the_disk_is_looked_at(tmp_path: Path) -> None:
    old = tmp_path / segment_name("door", 0)
    old.write_bytes(b"old")
    folder = SegmentFolder(
        RecordSettings(directory=str(tmp_path)), lambda: 1e9, lambda _: 0 if old.exists() else 100 * GB
    )
    folder.check()
    assert not old.exists()
