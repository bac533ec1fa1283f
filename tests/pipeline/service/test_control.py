"""Streams that are added, changed and removed while a run goes on."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engines.errors import ConfigError, TrunklineError
from engines.spec import Model
from pipeline.frames.counters import FrameCounts
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Health
from pipeline.service.control import Control
from pipeline.settings.redact import FromVariable
from pipeline.settings.schema import StreamSettings
from tests.pipeline.made_runs import (
    PATIENCE_S,
    Run,
    check_books,
    check_ends,
    frames_in,
    is_finished,
    make_config,
    video_of,
    videos_of,
)

DARK = Picture.from_rgb(np.full((30, 40, 3), 40, np.uint8))
ADDRESS = "rtsp://cam/{}"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


def made_source(
    settings: StreamSettings,
    *,
    stop: threading.Event,
    health: Callable[[Health], None],
    first_seq: int = 0,
    **_: Any,
) -> Iterator[Frame]:
    """A camera of some 200 frames/s that lasts until it is stopped."""
    health(Health(settings.name, "up", "40x30 made", time.time_ns()))
    seq = first_seq
    while not stop.wait(0.005):
        yield Frame(settings.name, seq, time.time_ns(), time.monotonic_ns(), seq / 200, DARK)
        seq += 1


def camera(name: str, **values: Any) -> StreamSettings:
    return msgspec.convert({"name": name, "source": ADDRESS.format(name), "timeout_s": 0.5, **values}, StreamSettings)


class Controlled(Run):
    """A run of made cameras and its control."""

    def __init__(self, model: Model, *names: str, **sections: object) -> None:
        self.control = Control()
        streams: dict[str, Any] = {name: {"source": ADDRESS.format(name), "timeout_s": 0.5} for name in names}
        super().__init__(make_config(model, streams, **sections), source=made_source, control=self.control)
        self.wait(lambda run: len(self.control.streams()) == len(names))


def test_a_stream_is_added_and_removed_and_its_books_stay(model: Model) -> None:
    run = Controlled(model, "door")
    run.flows("door")
    run.control.add(camera("yard"))
    assert [stream.name for stream in run.control.streams()] == ["door", "yard"]
    run.flows("yard")
    run.control.remove("yard")
    assert [stream.name for stream in run.control.streams()] == ["door"]
    told = len(run.frames("yard"))
    run.flows("door")
    summary = run.end_now()
    check_books(run, summary)
    check_ends(run, "gone", "withdrawn", "stopped")
    assert told <= summary.streams["yard"].published == len(run.frames("yard"))
    assert summary.streams["yard"].dropped.keys() <= {"stale"}
    assert [(report.state, report.cause) for report in run.health("yard")] == [
        ("up", "40x30 made"),
        ("ended", "removed"),
    ]
    assert [report.state for report in run.health("door")] == ["up", "ended"], "another stream noticed"


def test_the_last_word_on_an_added_stream_is_waited_for(model: Model) -> None:
    run = Controlled(model, "door")
    run.flows("door")
    run.control.add(camera("yard"))
    run.flows("yard")
    run.control.remove("door")  # its last word is long said when the run is over
    run.end_now()
    assert run.told_all()
    run.messages = [message for message in run.messages if message is not run.health("yard")[-1]]
    assert not run.told_all(), "who reads slowly would miss it"


def test_a_stream_of_a_name_that_was_removed_counts_on_and_gives_tracks_new_numbers(model: Model) -> None:
    run = Controlled(model, "door", "yard")
    run.flows("yard")
    run.control.remove("yard")
    run.control.add(camera("yard"))
    run.flows("yard")
    check_books(run, run.end_now())
    ends = check_ends(run, "gone", "withdrawn", "stopped")  # no number began twice
    assert ends["object", "stopped"] == 3
    seqs = [frame.seq for frame in run.frames("yard")]
    assert seqs == sorted(set(seqs))


def test_a_changed_stream_goes_down_and_comes_back_by_its_new_settings(model: Model) -> None:
    run = Controlled(model, "door", "yard")
    run.flows("yard")
    everywhere = [{"name": "everywhere", "points": [[0, 0], [1, 0], [1, 1], [0, 1]]}]
    run.control.change(camera("yard", zones=everywhere))
    run.flows("yard", 10)
    check_books(run, run.end_now())
    assert [(report.state, report.cause) for report in run.health("yard")][:3] == [
        ("up", "40x30 made"),
        ("down", "changed"),
        ("up", "40x30 made"),
    ]
    assert {event.name for event in run.events("yard") if event.kind == "zone"} == {"everywhere"}
    assert not [event for event in run.events("door") if event.kind == "zone"]


def test_the_same_settings_change_nothing(model: Model) -> None:
    run = Controlled(model, "door")
    run.flows("door")
    (before,) = run.control.streams()
    run.control.change(before)
    run.flows("door")
    run.end_now()
    assert [report.state for report in run.health("door")] == ["up", "ended"]


def test_a_stream_whose_address_has_a_variable_is_added_and_what_is_refused_hides_it(
    model: Model,
) -> None:
    run = Controlled(model, "door")
    source = FromVariable("rtsp://ada:hunter2@cam/yard", "rtsp://ada:${PASSWORD}@cam/yard")
    run.control.add(msgspec.structs.replace(camera("yard"), source=source))
    run.flows("yard")
    with pytest.raises(ConfigError) as refusal:
        run.control.change(msgspec.structs.replace(camera("yard"), source=source, timeout_s=-1.0))
    assert "hunter2" not in str(refusal.value)
    check_books(run, run.end_now())


def test_a_run_whose_last_stream_was_removed_waits_for_others(model: Model) -> None:
    run = Controlled(model, "door")
    run.flows("door")
    run.control.remove("door")
    time.sleep(0.5)  # longer than it takes to notice that nothing more comes
    run.control.add(camera("yard"))
    run.flows("yard")
    run.control.remove("yard")
    summary = run.end_now()
    check_books(run, summary)
    assert list(summary.streams) == ["door", "yard"]


def test_an_added_stream_is_recorded_and_its_video_finished_when_it_is_removed(model: Model, tmp_path: Path) -> None:
    run = Controlled(model, "door", record={"directory": str(tmp_path), "min_free_gb": 0.0})
    run.control.add(camera("yard"))
    run.flows("yard", 20)
    run.wait(lambda run: all(videos_of(tmp_path, name) for name in ("door", "yard")))
    assert not is_finished(video_of(tmp_path, "yard"))
    run.control.remove("yard")
    run.wait(lambda run: is_finished(video_of(tmp_path, "yard")))
    run.flows("door")
    assert not is_finished(video_of(tmp_path, "door")), "another stream noticed"
    summary = run.end_now()
    check_books(run, summary)
    assert summary.left_out is not None
    for name, account in summary.streams.items():
        assert frames_in(video_of(tmp_path, name)) == account.published - summary.left_out.get(name, 0)


REFUSED = {
    "a name that exists": ("add", camera("door"), "stream 'door' cannot be added: there is one of this name already"),
    "a change of none": ("change", camera("yard"), "stream 'yard' cannot be changed: there is none of this name, but"),
    "a removal of none": ("remove", "yard", "stream 'yard' cannot be removed: there is none of this name, but door"),
    "no such file": ("add", StreamSettings(name="yard", source="none.mp4"), "source 'none.mp4' does not exist"),
    "a label of no model": (
        "add",
        camera("yard", lines=[{"name": "kerb", "points": [[0, 0], [1, 1]], "labels": ["tram"]}]),
        "labels.0. is 'tram', but must be one of the model's labels: person, dog",
    ),
    "backoff upside down": (
        "change",
        camera("door", reconnect_min_s=3.0, reconnect_max_s=2.0),
        "stream 'door': reconnect_min_s is 3, but must be at most reconnect_max_s",
    ),
    "a type": (
        "add",
        StreamSettings(name="yard", source="x", timeout_s=-1.0),
        "stream 'yard': timeout_s is -1.0,",
    ),
    "forwarded": ("add", camera("yard", forward="tcp://h:1"), "forward is there, but must be left out"),
}


@pytest.mark.parametrize(("verb", "value", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_and_changes_nothing(model: Model, verb: str, value: Any, sentence: str) -> None:
    run = Controlled(model, "door")
    before = run.control.streams()
    with pytest.raises(TrunklineError, match=sentence):
        getattr(run.control, verb)(value)
    assert run.control.streams() == before
    run.flows("door")
    check_books(run, run.end_now())
    assert [report.state for report in run.health("door")] == ["up", "ended"]


def test_nothing_is_added_before_a_run_and_after_it(model: Model) -> None:
    with pytest.raises(ConfigError, match="only while a run goes on"):
        Control().add(camera("door"))
    run = Controlled(model, "door")
    run.end_now()
    with pytest.raises(ConfigError, match="only while a run goes on"):
        run.control.remove("door")
    assert run.control.streams() == ()


CALLS = st.lists(
    st.tuples(st.sampled_from(["add", "change", "remove", "look"]), st.sampled_from(["a", "b", "c"]), st.booleans()),
    min_size=1,
    max_size=8,
)


def expected(verb: str, name: str, there: set[str]) -> bool:
    """Whether a call on the streams that are there is carried out."""
    return (name not in there) if verb == "add" else name in there


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS, shards=st.integers(1, 3))
def test_the_books_are_true_whatever_is_added_changed_and_removed(
    model: Model, calls: list[tuple[str, str, bool]], shards: int
) -> None:
    threads = set(threading.enumerate())
    run, there, ever = Controlled(model, "a", postprocess={"shards": shards}), {"a"}, {"a"}
    for verb, name, wait in calls:
        if verb == "look" or wait:
            time.sleep(0.03)
        if verb == "look":
            continue
        limit = 1.0 if wait else 2.0  # so that a change is one, often
        value = name if verb == "remove" else camera(name, reconnect_max_s=limit + 3.0)
        try:
            getattr(run.control, verb)(value)
        except ConfigError:
            assert not expected(verb, name, there)
        else:
            assert expected(verb, name, there)
            ever.add(name)
            there = there - {name} if verb == "remove" else there | {name}
        assert {stream.name for stream in run.control.streams()} == there
    summary = run.end_now()
    assert summary.streams.keys() == ever
    check_books(run, summary)
    check_ends(run, "gone", "withdrawn", "stopped", "down")
    end = time.monotonic() + PATIENCE_S
    while left := set(threading.enumerate()) - threads:
        assert time.monotonic() < end, left
        time.sleep(0.01)


def test_a_stream_is_switched_off_and_on_by_the_settings_it_had(model: Model) -> None:
    run = Controlled(model, "door", "yard")
    control, before = run.control, run.control.streams()
    assert control.is_on("door", "detect")
    control.switch("door", "detect", False)
    control.switch("door", "detect", False)  # nothing more
    assert [stream.name for stream in control.streams()] == ["yard"] and not control.is_on("door", "detect")
    assert [stream.name for stream in control.paused()] == ["door"]
    with pytest.raises(ConfigError, match="stream 'door' cannot be added: there is one of this name already"):
        control.add(camera("door"))
    with pytest.raises(ConfigError, match="stream 'attic' cannot be switched: there is none of this name, but door, y"):
        control.switch("attic", "detect", False)
    control.switch("door", "detect", True)
    assert set(control.streams()) == set(before) and not control.paused()
    run.flows("door")
    control.switch("door", "detect", False)
    control.change(camera("door", reconnect_max_s=5.0))
    assert [stream.name for stream in control.streams()] == ["yard"], "a change switches nothing on"
    control.switch("door", "detect", True)
    assert {stream.name: stream.reconnect_max_s for stream in control.streams()}["door"] == 5.0
    check_books(run, run.end_now())


def test_a_stream_that_is_off_can_be_removed_and_its_end_is_told(model: Model) -> None:
    run = Controlled(model, "door", "yard")
    run.control.switch("door", "detect", False)
    run.wait(lambda run: bool(run.health("door")) and run.health("door")[-1].state == "ended")
    ends = len(run.health("door"))
    run.control.remove("door")
    assert run.control.is_on("door", "detect") and not run.control.paused()
    run.wait(lambda run: len(run.health("door")) > ends and run.health("door")[-1].state == "ended")
    assert (run.health("door")[-1].state, run.health("door")[-1].cause) == ("ended", "removed")
    run.control.add(camera("door"))
    run.flows("door")
    check_books(run, run.end_now())


def test_a_switch_that_cannot_be_set_stays_as_it_was(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Controlled(model, "door", "yard")
    with pytest.raises(ConfigError, match=r"the run records nothing, since record\.directory is not set"):
        run.control.switch("door", "record", False)
    run.control.switch("door", "detect", False)
    monkeypatch.setattr("pipeline.runtime.threads.Pipeline.add", refuses := _Refuses())
    with pytest.raises(ConfigError, match="no room"):
        run.control.switch("door", "detect", True)
    assert not run.control.is_on("door", "detect") and len(run.control.paused()) == refuses.calls == 1
    monkeypatch.undo()
    run.control.switch("door", "detect", True)
    run.flows("door")
    check_books(run, run.end_now())


class _Refuses:
    calls = 0

    def __call__(self, settings: StreamSettings) -> None:
        self.calls += 1
        raise ConfigError("no room")


def test_recording_of_one_stream_is_switched_off_and_on_while_its_messages_go_on(model: Model, tmp_path: Path) -> None:
    run = Controlled(model, "door", "yard", record={"directory": str(tmp_path), "min_free_gb": 0.0})
    run.wait(lambda run: all(videos_of(tmp_path, name) for name in ("door", "yard")))
    run.control.switch("door", "record", False)
    run.wait(lambda run: is_finished(video_of(tmp_path, "door")))
    run.flows("door")
    assert not is_finished(video_of(tmp_path, "yard")), "another stream noticed"
    kept = frames_in(video_of(tmp_path, "door"))
    run.control.switch("door", "record", True)
    run.wait(lambda run: len(videos_of(tmp_path, "door")) == 2)
    run.control.add(camera("attic"))
    run.control.switch("attic", "record", False)
    run.flows("attic")
    before = videos_of(tmp_path, "attic")
    run.control.remove("attic")
    assert run.control.is_on("attic", "record") and videos_of(tmp_path, "attic") == before
    summary = run.end_now()
    check_books(run, summary)
    assert [report.state for report in run.health("door")] == ["up", "ended"]
    assert frames_in(videos_of(tmp_path, "door")[0]) == kept
    recorded = sum(map(frames_in, videos_of(tmp_path, "door")))
    assert kept < recorded < summary.streams["door"].published
    others = [*videos_of(tmp_path, "yard"), *videos_of(tmp_path, "attic")]
    assert summary.sinks["record"].sent == recorded + sum(map(frames_in, others))


def test_thresholds_and_rates_change_and_no_stream_notices(model: Model) -> None:
    run = Controlled(model, "door", "yard")
    run.wait(lambda run: all(run.frames(name) and run.frames(name)[-1].objects for name in ("door", "yard")))
    with pytest.raises(
        ConfigError, match=r"max_batch cannot be changed while a run goes on; these can: inference\.obj"
    ):
        run.control.tune({"inference.max_batch": 3})
    with pytest.raises(ConfigError, match=r"face_score is 1\.5, but must be a number at least 0 and at most 1"):
        run.control.tune({"inference.object_score": 0.99, "inference.face_score": 1.5})
    assert run.control.tuning()["inference.object_score"] is None, "half of it was taken"
    run.control.tune({"inference.object_score": 0.99, "inference.fps": "auto"})
    run.wait(lambda run: not any(run.frames(name)[-1].objects for name in ("door", "yard")))
    assert run.frames("door")[-1].faces
    run.control.tune({"inference.object_score": None, "inference.fps": 2})
    run.control.add(camera("gate"))  # by what holds now
    run.wait(lambda run: run.frames("door")[-1].objects and "gate" in {frame.stream for frame in run.messages})
    run.control.change(camera("yard", inference_fps="full"))
    seen = len(run.frames("yard"))
    run.flows("yard", 60)
    run.flows("gate", 60)
    summary = run.end_now()
    check_books(run, summary)
    check_ends(run, "gone", "withdrawn", "stopped")
    assert [report.state for report in run.health("yard")] == ["up", "ended"], "it was captured anew for a rate"
    assert not any(frame.carried for frame in run.frames("yard")[seen + 40 :])
    assert all(any(frame.carried for frame in run.frames(name)) for name in ("door", "gate", "yard"))


def test_many_who_call_at_once_are_served_one_after_the_other(model: Model) -> None:
    run = Controlled(model, "door")
    names = [f"cam{number}" for number in range(4)]

    def come_and_go(name: str) -> None:
        run.control.add(camera(name))
        run.control.change(camera(name, reconnect_max_s=4.0))
        run.control.remove(name)

    callers = [threading.Thread(target=come_and_go, args=(name,)) for name in names]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert [stream.name for stream in run.control.streams()] == ["door"]
    summary = run.end_now()
    check_books(run, summary)
    assert set(summary.streams) == {"door", *names}
    assert all(isinstance(account, FrameCounts) and not account.in_flight for account in summary.streams.values())
