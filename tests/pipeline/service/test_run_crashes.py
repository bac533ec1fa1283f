"""Whole runs whose stages, sources and engines crash."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.typing import EventDict

from engines.errors import EngineError, StageError
from engines.spec import Model
from pipeline.frames.counters import FrameCounters
from pipeline.frames.types import Frame, Health
from pipeline.gallery.gallery import Gallery
from pipeline.runtime import link as links
from pipeline.runtime import postprocess, threads
from pipeline.runtime.supervision import MAX_CRASHES
from pipeline.settings.schema import StreamSettings
from pipeline.sources import capture as sources
from pipeline.wire.messages import EventMessage, HealthMessage
from tests.pipeline.made_runs import (
    EMBEDDING,
    Run,
    SlowEngine,
    check_books,
    check_ends,
    content,
    make_config,
)
from tests.pipeline.service.made_faults import FRAMES, RATE, SIZE, crashing, slowed, wrapped

pytestmark = pytest.mark.usefixtures("logs", "no_thread_is_left")


@pytest.mark.parametrize(
    "stage", ["preprocess", "start", "collect", "detect", "track", "identify", "smooth", "publish"]
)
def test_a_stage_that_crashes_once_loses_the_frames_it_held_and_nothing_else(
    model: Model, clip: Path, other_clip: Path, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict], stage: str
) -> None:
    crashing(monkeypatch, stage, lambda number: number == 5)
    run = Run(make_config(model, {"door": clip, "yard": other_clip}, inference={"max_batch": 4}))
    summary = run.end()
    check_books(run, summary)
    lost = sum((Counter(account.dropped) for account in summary.streams.values()), Counter[str]())
    assert lost.keys() == {"crash"}
    assert 1 <= lost["crash"] <= 4
    assert run.frames("door")[-1].seq == FRAMES - 1
    assert [line["frames_lost"] for line in logs if line["event"] == "stage crashed"] == [lost["crash"]]


@pytest.mark.parametrize("link", [links.FrameLink, links.QueueLink])
def test_a_link_that_fails_is_read_again(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict], link: Any
) -> None:
    reading = "batches" if link is links.FrameLink else "__iter__"
    real, numbers = getattr(link, reading), itertools.count()

    def failing(self: Any) -> Iterator[Any]:
        for item in real(self):
            yield item
            if next(numbers) == 5:
                raise ZeroDivisionError("made to crash")

    monkeypatch.setattr(link, reading, failing)
    run = Run(make_config(model, {"door": clip}, inference={"max_batch": 1}))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].published == FRAMES
    assert [line["event"] for line in logs if "crash" in line["event"]] == ["stage crashed"]


def test_messages_are_the_same_whatever_the_number_of_shards(model: Model, clip: Path, tmp_path: Path) -> None:
    streams: dict[str, Any] = {"door": clip, "yard": clip, "gate": clip}
    gallery = {"gallery": str(tmp_path / "gallery.sqlite"), "min_face_px": 4}
    runs = [Run(make_config(model, streams, identity=gallery, postprocess={"shards": shards})) for shards in (1, 2, 3)]
    for run in runs:
        summary = run.end()
        check_books(run, summary)
        assert summary.face_crops > 0
        assert sum(size * count for size, count in summary.batches.items()) == 3 * FRAMES
    assert content(runs[0]) == content(runs[1]) == content(runs[2])


def test_a_shard_that_crashes_costs_its_own_streams_alone(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = postprocess.track

    def track(items: Iterable[Any], trackers: Any) -> Iterator[Any]:
        for item in items:
            if ("yard", 5) in [(each.frame.stream, each.frame.seq) for each in item]:
                raise ZeroDivisionError("made to crash")
            yield from real([item], trackers)

    monkeypatch.setattr(postprocess, "track", track)
    run = Run(make_config(model, {"door": clip, "yard": clip}, postprocess={"shards": 2}))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].dropped == {}, "another shard noticed"
    assert summary.streams["yard"].dropped.keys() == {"crash"}
    assert summary.streams["yard"].published > 0


def test_a_slow_face_entry_holds_up_no_live_stream_and_its_answers_come_later(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped(monkeypatch, "face", lambda engine: SlowEngine(engine, 1.0))
    clip = make_clip(tmp_path / "dark.mp4", FRAMES, SIZE, RATE, lambda index: np.full((*SIZE[::-1], 3), 40, np.uint8))
    file = tmp_path / "people.sqlite"
    with Gallery(file, model.fingerprint) as gallery:
        gallery.enroll("Ada", EMBEDDING, ["made"])
    camera = {"source": clip, "pace": "camera", "loop": True}
    gallery_settings = {"gallery": str(file), "min_face_px": 4, "min_views": 1}
    run = Run(make_config(model, {"door": camera}, identity=gallery_settings))
    run.wait(lambda run: any(face.identity for frame in run.frames("door") for face in frame.faces))
    summary = run.end_now()
    check_books(run, summary)
    first = next(frame.seq for frame in run.frames("door") if frame.faces and frame.faces[0].identity)
    assert first >= RATE / 2, "the answer was there before it could be"
    assert summary.stages_ms["post"]["p90"] < 500.0


def test_a_face_entry_that_crashes_costs_no_frame(model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    class Failing(SlowEngine):
        def infer(self, batch: Any) -> Any:
            if next(numbers) < 2:
                raise ZeroDivisionError("made to crash")
            return super().infer(batch)

    wrapped(monkeypatch, "face", lambda engine: Failing(engine, 0.0))
    gallery = {"gallery": str(clip.parent / "crashing.sqlite"), "min_face_px": 4}
    run = Run(make_config(model, {"door": clip}, identity=gallery))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].dropped == {} and summary.face_crops > 0


def test_a_face_entry_that_keeps_crashing_ends_the_run_with_its_cause(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(SlowEngine):
        def infer(self, batch: Any) -> Any:
            raise ZeroDivisionError("made to crash")

    wrapped(monkeypatch, "face", lambda engine: Failing(engine, 0.0))
    gallery = {"gallery": str(clip.parent / "failing.sqlite"), "min_face_px": 4}
    run = Run(make_config(model, {"door": {"source": clip, "loop": True}}, identity=gallery))
    with pytest.raises(StageError, match="stage 'face entry' crashed more than 5 times in a minute: made to crash"):
        run.end()


def test_a_source_that_crashes_goes_on_with_the_frame_after(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict]
) -> None:
    real = sources.capture

    def capture(*arguments: Any, **more: Any) -> Iterator[Frame]:
        for frame in real(*arguments, **more):
            yield frame
            if frame.seq == 7:
                raise ZeroDivisionError("made to crash")

    monkeypatch.setattr(sources, "capture", capture)
    run = Run(make_config(model, {"door": clip}))
    summary = run.end()
    check_books(run, summary)
    assert [frame.seq for frame in run.frames("door")] == list(range(FRAMES))
    (line,) = [line for line in logs if line["event"] == "capture crashed"]
    assert line["stream"] == "door" and "ZeroDivisionError: made to crash" in line["exception"]
    assert [report.state for report in run.health("door")] == ["up", "down", "up", "ended"]


@pytest.mark.parametrize("stage", ["start", "collect", "track", "identify", "smooth", "publish"])
def test_tracks_live_on_after_a_crash_and_their_ids_are_not_given_to_others(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    # One crash while the first person is there, one after the second has come.
    crashing(monkeypatch, stage, lambda number: number in (12, 33))
    run = Run(make_config(model, {"door": clip}, inference={"max_batch": 1}))
    check_books(run, run.end())
    shown = {frame.seq: [thing.track for thing in frame.objects] for frame in run.frames("door")}
    assert all(ids == [1] for seq, ids in shown.items() if 3 <= seq < FRAMES // 2)
    assert all(ids == [2] for seq, ids in shown.items() if seq >= FRAMES // 2 + 3)
    assert len(shown) == FRAMES - 2
    new = [event.track for event in run.events("door") if (event.event, event.kind) == ("new", "object")]
    assert new == [1, 2]
    check_ends(run, "gone", "withdrawn", "stopped")


def test_what_is_seen_ends_with_the_connection_and_is_new_when_it_is_back(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sources.capture

    def capture(*arguments: Any, **more: Any) -> Iterator[Frame]:
        for frame in real(*arguments, **more):
            if frame.seq == 12:  # the next frame shows the same person in the same place
                more["health"](Health("door", "down", "the source ended", frame.captured_ns))
                more["health"](Health("door", "up", "opened again", frame.captured_ns))
            yield frame

    monkeypatch.setattr(sources, "capture", capture)
    run = Run(make_config(model, {"door": clip}))
    check_books(run, run.end())
    assert check_ends(run, "down", "gone", "withdrawn", "stopped")["object", "down"] == 1
    reported = [
        (message.kind, message.event) if isinstance(message, EventMessage) else message.state
        for message in run.messages
        if isinstance(message, HealthMessage) or (isinstance(message, EventMessage) and message.track == 1)
    ]
    assert reported.index(("object", "ended")) < reported.index("down"), "what ended with it is told before it"
    shown = {frame.seq: [thing.track for thing in frame.objects] for frame in run.frames("door")}
    assert (shown[11], shown[12], shown[16]) == ([1], [], [2])


@pytest.mark.parametrize("stage", ["preprocess", "start", "collect", "detect", "track", "publish"])
def test_a_stage_that_keeps_crashing_ends_the_run_with_its_cause(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    crashing(monkeypatch, stage, lambda number: number >= 3)
    counters = FrameCounters()
    monkeypatch.setattr(threads, "FrameCounters", lambda *_: counters)
    streams = {"door": {"source": clip, "loop": True}, "yard": {"source": clip, "live": True, "reconnect_min_s": 0.01}}
    run = Run(make_config(model, streams))
    with pytest.raises(StageError, match=r"stage '\w+' crashed more than 5 times in a minute: made to crash") as raised:
        run.end()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    for name in streams:
        assert counters.of(name).captured > 0
        assert counters.of(name).in_flight == 0
    check_ends(run, "gone", "withdrawn", "stopped", "down")


def test_a_source_that_ends_without_a_word_is_opened_again(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict]
) -> None:
    real, restarts = sources.capture, itertools.count()

    def capture(*arguments: Any, **more: Any) -> Iterator[Frame]:
        frames = real(*arguments, **more)
        return itertools.islice(frames, 7) if next(restarts) == 0 else frames

    monkeypatch.setattr(sources, "capture", capture)
    run = Run(make_config(model, {"door": clip}))
    summary = run.end()
    check_books(run, summary)
    assert [frame.seq for frame in run.frames("door")] == list(range(FRAMES))
    assert [line["stream"] for line in logs if line["event"] == "capture crashed"] == ["door"]


def test_a_source_that_keeps_crashing_is_down_alone(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict]
) -> None:
    real = sources.capture

    def capture(settings: StreamSettings, **more: Any) -> Iterator[Frame]:
        if settings.name == "door":
            raise ZeroDivisionError("made to crash")
        return real(settings, **more)

    monkeypatch.setattr(sources, "capture", capture)
    streams = {
        "door": {"source": "rtsp://ada:s3cret@cam/live", "reconnect_min_s": 0.01, "reconnect_max_s": 0.02},
        "yard": {"source": clip, "pace": "realtime"},
    }
    run = Run(make_config(model, streams))
    run.wait(lambda run: len(run.health("yard")) == 2)
    summary = run.end_now()
    check_books(run, summary)
    assert summary.streams["yard"].published == FRAMES
    assert [(report.state, report.cause) for report in run.health("door")] == [
        ("down", "capture crashed: ZeroDivisionError: made to crash"),
        ("ended", "the run was stopped"),
    ]
    assert len([line for line in logs if line["event"] == "capture crashed"]) > MAX_CRASHES + 1


def test_an_engine_that_fails_for_good_ends_the_run(model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise EngineError("frame.onnx failed in ONNX Runtime: out of memory")

    slowed(monkeypatch, 0.0, fail)
    with pytest.raises(StageError, match=r"stage 'infer' crashed .* out of memory"):
        Run(make_config(model, {"door": clip}, inference={"max_batch": 1})).end()
