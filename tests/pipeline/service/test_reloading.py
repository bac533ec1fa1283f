"""A configuration that is read again while its run goes on."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from engines.errors import ConfigError
from pipeline.runtime.reading import Reading
from pipeline.runtime.resuming import Resumed
from pipeline.service.control import Control
from pipeline.service.reloading import Reloaded, reload
from pipeline.settings.schema import Config, InferenceSettings, StreamSettings, Switch


class MadeRun:
    """The streams of a run that captures nothing."""

    def __init__(self, *streams: StreamSettings) -> None:
        self.config = RUNNING
        self.there = {stream.name: stream for stream in streams}
        self.calls: list[tuple[str, str]] = []
        self.off: set[tuple[str, Switch]] = set()

    def streams(self) -> tuple[StreamSettings, ...]:
        return tuple(self.there.values())

    def reading(self) -> Reading:
        return Reading()

    def add(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        self._put("add", settings)

    def change(self, settings: StreamSettings) -> None:
        self._put("change", settings)

    def _put(self, call: str, settings: StreamSettings) -> None:
        self.calls.append((call, settings.name))
        self.there[settings.name] = settings

    def set_rate(self, settings: StreamSettings) -> None:
        self._put("rate", settings)

    def configured(self) -> Config:
        return self.config

    def tune(self, config: Config) -> None:
        self.config = config

    def remove(self, name: str) -> None:
        self.calls.append(("remove", name))
        del self.there[name]

    def note(self, name: str, what: Switch, on: bool) -> None:
        (self.off.discard if on else self.off.add)((name, what))

    def is_on(self, name: str, what: Switch) -> bool:
        return (name, what) not in self.off


def camera(name: str, **values: Any) -> StreamSettings:
    return StreamSettings(name=name, source=f"rtsp://cam/{name}", **values)


RUNNING = Config(streams=(camera("door"), camera("yard")))


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


def reloaded(config: Config | ConfigError) -> MadeRun:
    run, control = MadeRun(*RUNNING.streams), Control()

    def read() -> Config:
        if isinstance(config, ConfigError):
            raise config
        return config

    with control.of(run), suppress(ConfigError):
        reload(read, RUNNING, control)
    return run


def test_streams_are_taken_over_and_removed_last(logs: list[EventDict]) -> None:
    run = reloaded(Config(streams=(camera("yard", timeout_s=1.0), camera("gate"))))
    assert run.calls == [("change", "yard"), ("add", "gate"), ("remove", "door")]
    assert [line["event"] for line in logs] == ["stream changed", "stream added", "stream removed"]


def test_what_is_the_same_changes_nothing(logs: list[EventDict]) -> None:
    assert not reloaded(RUNNING).calls and not logs


def test_what_needs_a_restart_is_said_and_the_streams_are_taken_over(logs: list[EventDict]) -> None:
    config = msgspec.structs.replace(RUNNING, streams=(camera("door"),), inference=InferenceSettings(max_batch=3))
    assert reloaded(config).calls == [("remove", "yard")]
    assert logs[0]["error"] == "inference is different, which needs a restart"


def test_thresholds_and_rates_are_taken_over_and_what_stands_beside_them_is_said(logs: list[EventDict]) -> None:
    run, control = MadeRun(*RUNNING.streams), Control()
    score, fps = "inference.object_score", "inference.fps"
    with control.of(run):
        control.tune({fps: 5.0, "identity.similarity": 0.5})
        wanted = InferenceSettings(object_score=0.6, fps=5.0, max_batch=3)
        streams = (camera("door", inference_fps=2.0), camera("yard"))
        done = reload(lambda: Config(streams=streams, inference=wanted), RUNNING, control)
    assert done == Reloaded(changed=("door",), tuned=(score, "identity.similarity"), needs_restart=("inference",))
    assert run.calls == [("rate", "door")] and run.config.inference == InferenceSettings(object_score=0.6, fps=5.0)
    assert run.config.identity.similarity is None
    assert [line.get("keys") for line in logs if line["event"] == "settings changed"] == [
        ["identity.similarity", score]
    ]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (ConfigError("site.toml: is not valid TOML"), "is not valid TOML"),
        (Config(streams=(camera("gate"), StreamSettings(name="tape", source="none.mp4"))), "does not exist"),
    ],
    ids=["cannot be read", "a source that cannot be used"],
)
def test_a_wrong_file_changes_nothing(logs: list[EventDict], config: Config | ConfigError, sentence: str) -> None:
    assert not reloaded(config).calls
    (line,) = logs
    assert line["event"] == "configuration not taken over" and sentence in line["error"]


def test_a_run_that_has_not_begun_says_so(logs: list[EventDict]) -> None:
    with pytest.raises(ConfigError, match="not taken over: streams can be added, changed and removed only while a ru"):
        reload(lambda: RUNNING, RUNNING, Control())
    assert [(line["event"], line["error"]) for line in logs] == [
        ("configuration not taken over", "streams can be added, changed and removed only while a run goes on")
    ]


def test_a_stream_that_is_switched_off_stays_off_and_takes_its_new_settings(logs: list[EventDict]) -> None:
    run, control = MadeRun(*RUNNING.streams), Control()
    with control.of(run):
        control.switch("door", "detect", False)
        done = reload(lambda: Config(streams=(camera("door", timeout_s=9.0), camera("yard"))), RUNNING, control)
        assert done == Reloaded(changed=("door",))
        assert run.calls == [("remove", "door")] and [each.timeout_s for each in control.paused()] == [9.0]
        reload(lambda: Config(streams=(camera("yard"),)), RUNNING, control)
        assert run.calls[1:] == [("add", "door"), ("remove", "door")] and not control.paused()


def test_settings_that_cannot_change_are_no_part_that_was_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    run, control = MadeRun(*RUNNING.streams), Control()

    def refuse(config: Config) -> None:
        raise ConfigError("not now")

    monkeypatch.setattr(run, "tune", refuse)
    config = msgspec.structs.replace(RUNNING, inference=InferenceSettings(fps=5.0))
    with control.of(run), pytest.raises(ConfigError, match=r"^configuration not taken over: not now$"):
        reload(lambda: config, RUNNING, control)
