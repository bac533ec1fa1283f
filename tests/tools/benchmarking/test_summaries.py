"""Figures of runs that were watched: the pipeline's, its limit's, and those of scaling."""

import threading
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import pytest

from pipeline.frames.types import Health
from pipeline.settings.schema import StreamSettings
from tests.tools.benchmarking.made_watched import make_heard, make_watched
from tools.benchmarking.figures import Percentiles, Spread
from tools.benchmarking.pipeline import (
    FrameCost,
    frame_shares,
    from_memory,
    summarise,
    summarise_predecoded,
    summarise_runs,
)
from tools.benchmarking.streams import doubled
from tools.benchmarking.streams import summarise as summarise_scaling

HUNDRED = [make_heard(total_ms=10.0 + number) for number in range(100)]


def test_frames_are_counted_and_cpu_time_is_shared_among_them() -> None:
    figures = summarise_runs("fast", [make_watched(HUNDRED), make_watched(HUNDRED[:50]), make_watched(HUNDRED)])
    assert figures.frames_per_s == Spread(10.0, 5.0, 10.0, (10.0, 5.0, 10.0))
    assert figures.cpu_ms_per_frame.values == (50.0, 100.0, 50.0)
    assert figures.cores_used.median == 0.5
    assert (figures.frames, figures.received, figures.seconds) == (250, 250, 30.0)
    assert figures.latency_ms["infer"] == Percentiles(2.0, 2.0, 2.0, 2.0, 2.0)
    assert figures.latency_p50_ms.values == (59.5, 34.5, 59.5)
    assert (figures.objects_per_frame, figures.faces_per_frame) == (2.0, 1.0)
    assert figures.memory.peak_mib.median == 600.0
    assert figures.memory.growth_percent.median == 0.0


def test_energy_is_told_only_if_every_run_knows_its_own() -> None:
    known = summarise_runs("fast", [make_watched(HUNDRED, joules=200.0)] * 2).power
    assert known.cpu_watts == Spread(20.0, 20.0, 20.0, (20.0, 20.0))
    assert known.cpu_joules_per_frame is not None
    assert known.cpu_joules_per_frame.median == 2.0
    half = summarise_runs("fast", [make_watched(HUNDRED, joules=200.0), make_watched(HUNDRED)]).power
    assert half.cpu_watts is half.cpu_joules_per_frame is None


def test_what_was_dropped_before_the_measurement_is_not_counted() -> None:
    heard = [make_heard(dropped={"stale": 5, "crash": 1}), make_heard(stream="s001")]
    run = make_watched(heard, dropped_before={"s000": {"stale": 3}, "s001": {}})
    assert summarise_runs("camera", [run]).dropped == {"stale": 2, "crash": 1}


def test_each_run_is_held_against_the_limit_that_was_measured_after_it() -> None:
    runs = [make_watched(HUNDRED, batches={4: 25}), make_watched(HUNDRED[:50], batches={1: 50})]
    costs = [FrameCost(decode=50.0, scale=10.0, engine=40.0), FrameCost(decode=100.0, scale=20.0, engine=80.0)]
    report = summarise(2, "queue", runs, costs, runs, cores=2)
    assert report.limit.frames_per_s.values == (20.0, 10.0)
    assert report.ratio_to_limit_repeats.values == (0.5, 0.5)
    assert report.ratio_to_limit == 0.5
    assert report.cpu_ms_beyond_limit.values == (-50.0, -100.0)
    assert report.limit.batch_mean == 2.0


def test_from_memory_each_run_is_held_against_the_engine_after_it() -> None:
    runs = [make_watched(HUNDRED), make_watched(HUNDRED[:50]), make_watched(HUNDRED)]
    report = summarise_predecoded(2, 64, "gpu", runs, 8, [20.0, 20.0, 12.5])
    assert report.throughput.frames_per_s.values == (10.0, 5.0, 10.0)
    assert report.engine_per_s.values == (20.0, 20.0, 12.5)
    assert report.ratio_to_engine_repeats.values == (0.5, 0.25, 0.8)
    assert report.ratio_to_engine == 0.5


def test_frames_from_memory_are_played_over_and_over_until_they_are_stopped(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    stop, told = threading.Event(), list[Health]()
    frames = from_memory(3, StreamSettings(name="door", source=str(clip)), stop=stop, health=told.append, first_seq=7)
    taken = list(islice(frames, 8))
    assert [frame.seq for frame in taken] == list(range(7, 15))
    assert all(one.picture is again.picture for one, again in zip(taken, taken[3:], strict=False))
    assert taken[0].picture is not taken[1].picture
    assert all(before.time_s < after.time_s for before, after in pairwise(taken))
    assert [report.state for report in told] == ["up"]
    stop.set()
    assert not list(frames)


def test_a_file_without_a_picture_gives_none_from_memory(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    told = list[Health]()
    settings = StreamSettings(name="door", source=str(tmp_path / "empty.mp4"))
    assert not list(from_memory(3, settings, stop=threading.Event(), health=told.append))
    assert [report.state for report in told] == ["ended"]


def test_an_engine_that_is_slower_than_the_cores_is_the_limit() -> None:
    assert FrameCost(1.0, 1.0, 0.0, engine_images_per_s=300.0).frames_per_s(cores=2) == 300.0
    assert FrameCost(1.0, 1.0, 0.0, engine_images_per_s=5000.0).frames_per_s(cores=2) == 1000.0


def test_batch_sizes_that_hardly_any_frame_came_in_are_not_measured() -> None:
    assert frame_shares({1: 1, 3: 1, 8: 100}) == {8: 1.0}
    assert sum(frame_shares({size: 10 for size in range(1, 9)}).values()) == pytest.approx(1.0)


def test_scaling_is_told_against_the_fewest_streams() -> None:
    runs = {
        1: [make_watched(HUNDRED, cpu_s=1.0, rss_mib=200.0)],
        4: [make_watched(HUNDRED * 4, cpu_s=6.0, rss_mib=260.0)],
    }
    report = summarise_scaling(10.0, runs)
    assert [row.cpu_per_frame_to_one for row in report.rows] == [1.0, 1.5]
    assert [row.frames_per_s.median for row in report.rows] == [10.0, 40.0]
    assert report.mib_per_stream == 20.0


def test_one_number_of_streams_says_nothing_of_the_next_ones_memory() -> None:
    assert summarise_scaling(10.0, {1: [make_watched(HUNDRED)]}).mib_per_stream is None


def test_streams_double_up_to_the_most() -> None:
    assert [doubled(most) for most in (1, 2, 33)] == [[1], [1, 2], [1, 2, 4, 8, 16, 32]]
