from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.settings.schema import Config, InferenceSettings, ModelSettings
from tests.tools.benchmarking.made_watched import make_heard, make_watched
from tools.benchmarking import streams as module
from tools.benchmarking.run import Setup
from tools.benchmarking.streams import hopeless, largest, measure_streams, why_not


class TestSearch:
    @given(st.integers(0, 200), st.integers(1, 200))
    def test_the_largest_number_is_found_in_few_trials(self, truth: int, up_to: int) -> None:
        asked: list[int] = []

        def holds(number: int) -> bool:
            asked.append(number)
            return number <= truth

        assert largest(holds, up_to) == min(truth, up_to)
        assert len(asked) == len(set(asked)) <= 2 * up_to.bit_length() + 1
        assert all(1 <= number <= up_to for number in asked)

    def test_nothing_beyond_twice_what_holds_is_tried(self) -> None:
        asked: list[int] = []
        largest(lambda number: not asked.append(number) and number <= 5, up_to=1000)
        assert max(asked) == 8


def test_no_frame_is_given_up_that_could_still_be_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are configured for the latency that is asked for."""
    configs: list[Config] = []

    def watched(config: Config, *_: Any) -> Any:
        configs.append(config)
        return make_watched([make_heard(stream=stream.name) for stream in config.streams for _ in range(300)])

    monkeypatch.setattr(module, "watch", watched)
    setup = Setup(("clip.mp4",), ModelSettings(), "queue", tmp_path, preprocess="gpu")
    report = measure_streams(setup, p99_ms=200.0, fps=30.0, seconds=10.0, up_to=2, tell=lambda text: None)
    assert report.most == 2
    assert {config.inference.preprocess for config in configs} == {"gpu"}, "the rest stays as it was asked for"
    assert {config.inference.max_queue_delay_ms for config in configs} == {report.max_queue_delay_ms} == {140.0}


def test_cameras_infer_and_decode_what_was_asked_for(tmp_path: Path) -> None:
    sources = {"a.mp4": "a-small.mp4", "b.mp4": "b-small.mp4"}
    setup = Setup(
        tuple(sources), ModelSettings(), "queue", tmp_path, inferred=5.0, detect_sources=tuple(sources.values())
    )
    config = setup.config(3, "camera")
    assert config.inference.fps == 5.0
    assert [(stream.source, stream.detect_source) for stream in config.streams] == [
        ("a.mp4", "a-small.mp4"),
        ("b.mp4", "b-small.mp4"),
        ("a.mp4", "a-small.mp4"),
    ]
    assert not any(stream.loop for stream in config.streams), "which detect_source does not allow"
    whole = Setup(tuple(sources), ModelSettings(), "queue", tmp_path).config(2, "camera")
    assert [stream.detect_source for stream in whole.streams] == [None, None]
    assert whole.inference == InferenceSettings()


def test_a_number_has_failed_when_it_failed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([make_watched([], cut_short=True), make_watched([make_heard()] * 300), *[make_watched([])] * 2])
    monkeypatch.setattr(module, "watch", lambda *_: next(runs))
    setup = Setup(("clip.mp4",), ModelSettings(), "queue", tmp_path)
    told: list[str] = []
    report = measure_streams(setup, p99_ms=200.0, fps=30.0, seconds=10.0, up_to=2, tell=told.append)
    assert report.most == 1
    held = [(trial.streams, trial.failure is None) for trial in report.trials]
    assert held == [(1, False), (1, True), (2, False), (2, False)]
    assert told == [f"{count} streams at once{again}" for count in (1, 2) for again in ("", ", again")]


class TestHopeless:
    def test_a_slow_frame_in_a_hundred_is_no_failure_and_two_are(self) -> None:
        failed = hopeless(100.0, planned_frames=100)
        assert [failed(make_heard(total_ms=ms), {}) for ms in (500.0, 20.0, 101.0)] == [False, False, True]

    def test_a_frame_that_was_dropped_before_the_measurement_does_not_count(self) -> None:
        failed, before = hopeless(100.0, planned_frames=1000), {"s000": {"stale": 4}}
        assert not failed(make_heard(dropped={"stale": 4}), before)
        assert failed(make_heard(dropped={"stale": 4, "crash": 1}), before)


class TestVerdict:
    names = ("s000", "s001")

    def heard(self, each: int = 100, **options: object) -> list:
        return [make_heard(stream=name, **options) for _ in range(each) for name in self.names]

    def test_a_run_that_held(self) -> None:
        assert why_not(make_watched(self.heard()), self.names, 100.0, fps=10.0) is None

    def test_a_frame_that_fell_on_the_edge_of_the_window_is_not_missing(self) -> None:
        heard = self.heard(each=10)[:-1]
        assert why_not(make_watched(heard, seconds=1.0), self.names, 100.0, fps=10.0) is None

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            pytest.param({"dropped": {"stale": 3}}, "dropped 6 stale", id="lost frames"),
            pytest.param({"total_ms": 101.0}, "p99 beyond 100 ms", id="slow"),
            pytest.param({"each": 50}, "s000 gave 50 of 100 frames", id="half of the frames"),
            pytest.param({"each": 0}, "p99 beyond 100 ms", id="nothing at all"),
        ],
    )
    def test_why_a_run_did_not_hold(self, options: dict, why: str) -> None:
        assert why_not(make_watched(self.heard(**options)), self.names, 100.0, fps=10.0) == why

    def test_messages_that_got_lost(self) -> None:
        assert why_not(make_watched(self.heard(), missed=2), self.names, 100.0, 10.0) == "2 messages did not arrive"

    def test_a_stream_that_fell_silent(self) -> None:
        heard = [make_heard(stream="s000") for _ in range(100)]
        assert why_not(make_watched(heard), self.names, 100.0, fps=10.0) == "s001 gave 0 of 100 frames"

    def test_a_trial_that_was_cut_short_did_not_hold(self) -> None:
        assert why_not(make_watched(self.heard(), cut_short=True), self.names, 100.0, 10.0) == "p99 beyond 100 ms"
