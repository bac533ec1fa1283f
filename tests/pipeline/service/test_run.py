"""Whole runs: every frame is accounted for, whatever happens on its way."""

import itertools
import json
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from engines.engine import Engine
from engines.errors import ConfigError, EngineError, GalleryError, ModelError, SourceError, StageError, TrunklineError
from engines.spec import EntryName, Model, Thresholds
from pipeline.frames.counters import FrameCounters
from pipeline.frames.types import Carrier, Counts, Frame, Health, Result
from pipeline.gallery.gallery import Gallery
from pipeline.inference import preprocess as preprocessing
from pipeline.inference import stage as inference
from pipeline.inference.stage import open_entry
from pipeline.runtime import event_publisher, postprocess, supervision, threads
from pipeline.runtime import link as links
from pipeline.runtime.postprocess import effective_thresholds, low_score_thresholds
from pipeline.runtime.supervision import MAX_CRASHES
from pipeline.service import run as running
from pipeline.settings.schema import Config, InferenceSettings, ModelSettings, PublishSettings, StreamSettings
from pipeline.sinks.video import Recorder
from pipeline.sinks.zmq import Publisher
from pipeline.sources import capture as sources
from pipeline.wire.messages import EventMessage, HealthMessage
from tests.pipeline.made_cuts import cut_clip, known, nothing_survives
from tests.pipeline.made_runs import (
    EMBEDDING,
    PATIENCE_S,
    Run,
    SlowEngine,
    check_books,
    check_ends,
    content,
    dark_then_bright,
    make_config,
    video_of,
    write_model,
)
from tests.pipeline.made_sources import QUIET_S, HangingFile, not_a_pipe

FRAMES = 40  # of a clip; dark in its first half, bright in its second
SIZE = (160, 120)
RATE = 25


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, SIZE, RATE, dark_then_bright(FRAMES, SIZE))


@pytest.fixture(scope="module")
def other_clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "other.mp4", frames=23, size=(96, 130))


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + PATIENCE_S
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < end, left
        time.sleep(0.01)


def slowed(
    monkeypatch: pytest.MonkeyPatch, seconds: float, before: Callable[[int], object] = lambda number: None
) -> None:
    """Let the frame entry take so long for a batch; ``before`` hears the number of each, from 1."""

    def opened(model: Model, entry: EntryName, settings: ModelSettings) -> Engine:
        engine = open_entry(model, entry, settings)
        return SlowEngine(engine, seconds, before) if entry == "frame" else engine

    monkeypatch.setattr(inference, "open_entry", opened)


def crashing(monkeypatch: pytest.MonkeyPatch, stage: str, crashes: Callable[[int], bool]) -> None:
    """Let a stage crash over those of its items, numbered from 0 over all its lives, that ``crashes`` says."""
    module = next(
        module for module in (postprocess, event_publisher, preprocessing, inference) if hasattr(module, stage)
    )
    real, numbers = getattr(module, stage), itertools.count()

    def watched(items: Iterable[Carrier]) -> Iterator[Carrier]:
        for item in items:
            if crashes(next(numbers)):
                raise ZeroDivisionError("made to crash")
            yield item

    monkeypatch.setattr(module, stage, lambda items, *rest: real(watched(items), *rest))


# Every frame is accounted for.


def test_a_file_is_told_to_its_end(model: Model, clip: Path) -> None:
    run = Run(make_config(model, {"door": clip}))
    summary = run.end()
    check_books(run, summary)
    account = summary.streams["door"]
    assert (account.captured, account.published, account.dropped) == (FRAMES, FRAMES, {})
    assert [frame.seq for frame in run.frames("door")] == list(range(FRAMES))
    assert [(report.state, report.cause) for report in run.health("door")] == [
        ("up", "160x120 h264"),
        ("ended", f"end of the file after {FRAMES} frames"),
    ]


def test_what_the_network_sees_is_tracked_and_told(model: Model, clip: Path) -> None:
    run = Run(make_config(model, {"door": clip}, tracking={"max_lost_s": 0.2}))
    run.end()
    frames = run.frames("door")
    assert not frames[0].objects  # one detection is not enough
    (first,), (last,) = frames[10].objects, frames[-1].objects
    assert (first.track, first.label) == (1, "person")
    assert first.box == pytest.approx((10, 10, 50, 110), abs=0.5)  # the network's input is 2.5 times smaller
    assert (last.track, last.label) == (2, "person")
    assert last.box == pytest.approx((100, 10, 140, 110), abs=0.5)
    (face,) = frames[10].faces
    assert (face.track, face.object, face.identity) == (1, 1, None)
    assert frames[19].scene[0].label == "street"
    objects = [(event.event, event.track) for event in run.events("door") if event.kind == "object"]
    assert objects == [("new", 1), ("new", 2), ("ended", 1), ("ended", 2)]


def test_several_files_at_once(model: Model, clip: Path, other_clip: Path) -> None:
    run = Run(make_config(model, {"door": clip, "yard": other_clip, "gate": clip}, inference={"max_batch": 4}))
    summary = run.end()
    check_books(run, summary)
    assert {name: account.published for name, account in summary.streams.items()} == {
        "door": FRAMES,
        "yard": 23,
        "gate": FRAMES,
    }
    assert not any(account.dropped for account in summary.streams.values())
    assert {frame.size for frame in run.frames("yard")} == {(96, 130)}


def test_a_live_stream_with_a_slow_engine_drops_stale_frames_and_counts_them(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, 0.02)
    # It is read as fast as it goes, and opened again at its end.
    run = Run(make_config(model, {"door": {"source": clip, "live": True, "reconnect_min_s": 0.01}}))
    run.wait(lambda run: len(run.frames("door")) >= 30)
    run.stop.set()
    summary = run.end()
    check_books(run, summary)
    account = summary.streams["door"]
    assert account.dropped.keys() == {"stale"}
    assert account.dropped["stale"] > 0
    assert ("down", "the source ended") in {(report.state, report.cause) for report in run.health("door")}
    assert run.frames("door")[-1].seq >= account.published


def test_a_live_stream_loses_frames_beside_a_file_that_loses_none(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, 0.01)
    streams = {"live": {"source": clip, "live": True, "reconnect_min_s": 0.01}, "file": clip}
    run = Run(make_config(model, streams))
    run.wait(lambda run: any(report.state == "ended" for report in run.health("file")))
    run.stop.set()
    summary = run.end()
    check_books(run, summary)
    assert (summary.streams["file"].published, summary.streams["file"].dropped) == (FRAMES, {})


def test_frames_of_a_dead_stream_are_not_waited_for(model: Model, clip: Path) -> None:
    streams = {"dead": {"source": "rtsp://127.0.0.1:9/none", "reconnect_min_s": 0.01}, "file": clip}
    run = Run(make_config(model, streams))
    run.wait(lambda run: any(report.state == "ended" for report in run.health("file")))
    run.stop.set()
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["dead"].captured == 0
    assert [report.state for report in run.health("dead")] == ["down", "ended"]
    assert run.health("dead")[-1].cause == "the run was stopped"


def test_the_end_of_a_file_is_told_after_its_last_frame_however_slow_the_engine_is(
    model: Model, clip: Path, other_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, 0.1)
    run = Run(make_config(model, {"door": clip, "yard": other_clip}))
    check_books(run, run.end())
    ends = [message for message in run.messages if isinstance(message, HealthMessage) and message.state == "ended"]
    assert {end.stream: (end.captured, end.published, end.dropped) for end in ends} == {
        "door": (FRAMES, FRAMES, {}),
        "yard": (23, 23, {}),
    }


# The run is stopped.


def test_a_stop_in_the_middle_lets_frames_on_their_way_finish(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, 0.02)
    run = Run(make_config(model, {"door": {"source": clip, "loop": True}, "yard": {"source": clip, "loop": True}}))
    run.wait(lambda run: len(run.frames("door")) > FRAMES)
    run.stop.set()
    summary = run.end()
    check_books(run, summary)
    for name, account in summary.streams.items():
        assert account.dropped == {}
        assert run.health(name)[-1].cause == "the run was stopped"
    assert check_ends(run, "gone", "withdrawn", "stopped")["object", "stopped"] >= 2


def test_frames_that_take_too_long_to_finish_are_given_up_and_counted(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict]
) -> None:
    monkeypatch.setattr(threads, "DRAIN_S", 0.0)
    monkeypatch.setattr(supervision, "HURRY_S", 0.0)
    slowed(monkeypatch, 0.8)
    run = Run(make_config(model, {"door": {"source": clip, "loop": True, "timeout_s": 0.01}}))
    run.wait(lambda run: len(run.frames("door")) >= 1)
    run.stop.set()
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].dropped.keys() == {"shutdown"}
    assert "frames given up" in [line["event"] for line in logs]


def test_a_source_that_hangs_in_a_read_is_left_behind(
    model: Model,
    clip: Path,
    make_clip: Callable[..., Path],
    tmp_path: Path,
    logs: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stat, "S_ISFIFO", not_a_pipe)
    hanging = HangingFile(tmp_path / "pipe", make_clip(tmp_path / "clip.mkv", FRAMES, SIZE))
    door = {"source": hanging.path, "pace": "fast", "timeout_s": 0.1}
    run = Run(make_config(model, {"door": door, "yard": {"source": clip, "loop": True, "timeout_s": 0.1}}))
    seen = 0
    while not seen or seen < len(run.frames("door")):
        seen = len(run.frames("door"))
        time.sleep(QUIET_S)
    run.stop.set()
    summary = run.end()
    hanging.close()
    check_books(run, summary)
    assert all(not account.dropped for account in summary.streams.values())
    reported = [line["threads"] for line in logs if line["event"] == "sources did not end and are left behind"]
    assert reported == [["capture door"]]


def test_a_run_that_is_stopped_before_it_begins_says_so(model: Model, clip: Path) -> None:
    stop = threading.Event()
    stop.set()
    began = time.monotonic()
    summary = running.run(make_config(model, {"door": clip}), stop=stop, wait_for_subscriber_s=PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2  # nor does it wait for a subscriber
    account = summary.streams["door"]
    assert account.in_flight == 0


def test_nobody_subscribes_and_the_run_goes_on(model: Model, clip: Path, logs: list[EventDict]) -> None:
    summary = running.run(make_config(model, {"door": clip}), stop=threading.Event(), wait_for_subscriber_s=0.01)
    assert summary.streams["door"].published == FRAMES
    assert "nobody subscribed" in [line["event"] for line in logs]


# Stages crash.


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
            if (item.frame.stream, item.frame.seq) == ("yard", 5):
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
    def opened(model: Model, entry: EntryName, settings: ModelSettings) -> Engine:
        engine = open_entry(model, entry, settings)
        return SlowEngine(engine, 1.0) if entry == "face" else engine

    monkeypatch.setattr(inference, "open_entry", opened)
    clip = make_clip(tmp_path / "dark.mp4", FRAMES, SIZE, RATE, lambda index: np.full((*SIZE[::-1], 3), 40, np.uint8))
    file = tmp_path / "people.sqlite"
    with Gallery(file, model.fingerprint) as gallery:
        gallery.enroll("Ada", EMBEDDING, ["made"])
    camera = {"source": clip, "pace": "camera", "loop": True}
    gallery_settings = {"gallery": str(file), "min_face_px": 4, "min_views": 1}
    run = Run(make_config(model, {"door": camera}, identity=gallery_settings))
    run.wait(lambda run: any(face.identity for frame in run.frames("door") for face in frame.faces))
    run.stop.set()
    summary = run.end()
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

    def opened(model: Model, entry: EntryName, settings: ModelSettings) -> Engine:
        engine = open_entry(model, entry, settings)
        return Failing(engine, 0.0) if entry == "face" else engine

    monkeypatch.setattr(inference, "open_entry", opened)
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

    def opened(model: Model, entry: EntryName, settings: ModelSettings) -> Engine:
        engine = open_entry(model, entry, settings)
        return Failing(engine, 0.0) if entry == "face" else engine

    monkeypatch.setattr(inference, "open_entry", opened)
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
    monkeypatch.setattr(threads, "FrameCounters", lambda: counters)
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
    run.stop.set()
    summary = run.end()
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


# Recording and names.


def test_annotated_videos_hold_every_published_frame(
    model: Model, clip: Path, other_clip: Path, tmp_path: Path
) -> None:
    run = Run(make_config(model, {"door": clip, "yard": other_clip}, record={"directory": str(tmp_path / "videos")}))
    run.end()
    for name, count in (("door", FRAMES), ("yard", 23)):
        with av.open(str(video_of(tmp_path / "videos", name))) as container:
            assert sum(1 for _ in container.decode(video=0)) == count


def recorded(video: Path) -> int:
    """How many frames a video has."""
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def slow_down_recording(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = Recorder.write

    def write(recorder: Recorder, result: Result, counts: Mapping[str, Counts]) -> bool:
        time.sleep(seconds)
        return real(recorder, result, counts)

    monkeypatch.setattr(Recorder, "write", write)


def test_a_slow_recorder_costs_a_live_stream_frames_of_the_recording_alone(
    model: Model, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down_recording(monkeypatch, 0.2)
    run = Run(make_config(model, {"door": {"source": clip, "pace": "camera"}}, record={"directory": str(tmp_path)}))
    summary = run.end()
    check_books(run, summary)
    published, left_out = summary.streams["door"].published, (summary.left_out or {})["door"]
    assert left_out > published / 4
    assert recorded(video_of(tmp_path, "door")) == published - left_out
    assert summary.to_json()["recording"] == {"left_out": {"door": left_out}}
    assert summary.to_json()["sinks"]["record"] == {"sent": published - left_out, "lost": {"full": left_out}}
    assert run.health("door")[-1].sinks["record"]["full"] > 0


def test_a_slow_recorder_still_has_all_of_a_file_and_a_camera_beside_it_goes_on(
    model: Model, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down_recording(monkeypatch, 0.06)
    streams: dict[str, Any] = {"tape": clip, "door": {"source": clip, "pace": "camera"}}
    run = Run(make_config(model, streams, record={"directory": str(tmp_path)}))
    summary = run.end()
    check_books(run, summary)
    assert recorded(video_of(tmp_path, "tape")) == FRAMES
    published, left_out = summary.streams["door"].published, (summary.left_out or {})["door"]
    assert published > FRAMES / 2, "at the pace of the recorder a quarter of them would have come"
    assert recorded(video_of(tmp_path, "door")) == published - left_out


@pytest.mark.parametrize("closing_fails_too", [False, True])
def test_a_recorder_that_fails_does_not_stop_the_messages(
    model: Model,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logs: list[EventDict],
    closing_fails_too: bool,
) -> None:
    real, numbers = Recorder.write, itertools.count()

    def write(recorder: Recorder, result: Result, counts: Mapping[str, Counts]) -> bool:
        if next(numbers) == 3:
            raise OSError(28, "No space left on device")
        real(recorder, result, counts)

    def close(recorder: Recorder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "write", write)
    if closing_fails_too:
        monkeypatch.setattr(Recorder, "close", close)
    run = Run(make_config(model, {"door": clip}, record={"directory": str(tmp_path / "videos")}))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].published == FRAMES
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["recording failed"]


def test_people_in_the_gallery_are_named(model: Model, clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.sqlite"
    with Gallery(file, model.fingerprint) as gallery:
        gallery.enroll("Ada", EMBEDDING, ["ada.jpg"])
    run = Run(make_config(model, {"door": clip}, identity={"gallery": str(file), "min_face_px": 10}))
    summary = run.end()
    check_books(run, summary)
    names = [[face.identity and face.identity.name for face in frame.faces] for frame in run.frames("door")]
    assert names[-1] == ["Ada"]
    assert 3 <= summary.face_crops < FRAMES
    assert 3 <= summary.face_runs <= summary.face_crops


def test_no_name_and_no_track_survives_a_hard_cut(model: Model, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = cut_clip(make_clip, tmp_path / "cuts.mp4")
    run = Run(make_config(model, {"door": clip}, identity=known(tmp_path / "people.sqlite", model)))
    check_books(run, run.end())
    nothing_survives(run, "door")


# What is refused, and when.


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Config], TrunklineError]:
    """Runs a configuration that cannot be had; its error, when no thread, no file and no socket came of it."""

    def refuse(config: Config) -> TrunklineError:
        started: list[str] = []
        before, files = set(threading.enumerate()), set(tmp_path.rglob("*"))
        with pytest.raises(TrunklineError) as raised:
            running.run(config, stop=threading.Event(), started=started.append)
        assert started == []
        assert set(threading.enumerate()) == before
        assert set(tmp_path.rglob("*")) == files
        return raised.value

    return refuse


def test_a_missing_file_is_refused_before_anything_starts(
    model: Model, clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    missing = tmp_path / "none.mp4"
    streams = {"door": clip, "yard": missing}
    error = refused(make_config(model, streams, record={"directory": str(tmp_path / "videos")}))
    assert isinstance(error, SourceError)
    assert str(error) == f"stream 'yard': source '{missing}' does not exist"


def test_a_file_that_is_no_video_is_refused(
    model: Model, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    error = refused(make_config(model, {"door": tmp_path / "notes.mp4"}))
    assert str(error) == f"stream 'door': source '{tmp_path}/notes.mp4' is not a video"


def test_a_damaged_model_is_refused(clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]) -> None:
    damaged = write_model(tmp_path / "model")
    whole = damaged.file("frame").read_bytes()
    damaged.file("frame").write_bytes(whole[:-1])
    error = refused(make_config(damaged, {"door": clip}))
    assert isinstance(error, ModelError)
    assert "frame.onnx does not match spec.json: sha256" in str(error)


def test_a_model_that_does_not_do_what_its_spec_says_is_refused(
    clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    model = write_model(tmp_path / "model")
    spec = json.loads((model.path / "spec.json").read_text())
    spec["frame"]["outputs"]["scene"] = [3]
    (model.path / "spec.json").write_text(json.dumps(spec))
    error = refused(make_config(model, {"door": clip}))
    assert isinstance(error, ModelError)
    assert "output 'scene' of the frame entry is (2, 2), expected (2, 3)" in str(error)


def test_an_address_that_is_taken_is_refused(
    model: Model, clip: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:
        error = refused(make_config(model, {"door": clip}, publish={"address": publisher.address}))
    assert isinstance(error, ConfigError)
    assert "Address already in use" in str(error)


def test_a_gallery_that_is_none_is_refused(
    model: Model, clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    (tmp_path / "people.sqlite").write_text("not a gallery" * 100)
    error = refused(make_config(model, {"door": clip}, identity={"gallery": str(tmp_path / "people.sqlite")}))
    assert isinstance(error, GalleryError)
    assert "people.sqlite" in str(error)


def test_after_a_refusal_the_address_is_free_again(model: Model, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:
        address = publisher.address
    config = make_config(
        model, {"door": clip}, publish={"address": address}, record={"directory": str(tmp_path / "file" / "videos")}
    )
    with pytest.raises(ConfigError, match=r"record\.directory: cannot make"):
        running.run(config, stop=threading.Event())
    Publisher(PublishSettings(address=address)).close()


# Secrets, thresholds, the summary.


def test_a_password_in_a_source_is_never_told(model: Model, clip: Path, logs: list[EventDict]) -> None:
    door = {"source": "rtsp://ada:hunter2@127.0.0.1:9/live", "reconnect_min_s": 0.01}
    run = Run(make_config(model, {"door": door, "file": clip}))
    run.wait(lambda run: bool(run.health("door")) and len(run.frames("file")) == FRAMES)
    run.stop.set()
    summary = run.end()
    reported = f"{run.messages} {logs} {summary.to_json()}"
    assert "the run was stopped" in reported
    assert "hunter2" not in reported


def test_thresholds_of_the_configuration_come_before_those_of_the_model(model: Model) -> None:
    config = make_config(model, {"door": "0"})
    assert effective_thresholds(config, model) == model.spec.thresholds
    config = make_config(
        model, {"door": "0"}, inference=InferenceSettings(object_score=0.0), identity={"similarity": 0.7}
    )
    thresholds = effective_thresholds(config, model)
    assert (thresholds.object_score, thresholds.identity_similarity) == (0.0, 0.7)
    assert thresholds.face_score == model.spec.thresholds.face_score


def test_detection_lets_weaker_things_through_to_the_trackers_than_begin_a_track() -> None:
    unsure = low_score_thresholds(Thresholds(object_score=0.4, face_score=0.6, object_iou=0.5), 0.5)
    assert [unsure.object_score, unsure.face_score] == pytest.approx([0.25, 3 / 7])  # half the odds, 1:3 and 3:4
    assert unsure.object_iou == 0.5


def test_the_summary_says_how_it_went(model: Model, clip: Path) -> None:
    run = Run(make_config(model, {"door": clip}))
    summary = run.end()
    text = json.loads(json.dumps(summary.to_json()))
    end = {"read": "all", "cause": f"end of the file after {FRAMES} frames"}
    assert text["streams"] == {"door": {"captured": FRAMES, "published": FRAMES, "dropped": {}} | end}
    assert (text["backend"], text["precision"]) == ("onnxruntime", "f32")
    assert text["face_entry"] == {"runs": 0, "crops": 0}
    assert text["frames"] == {"inferred": FRAMES, "carried": 0}
    assert text["frames_per_s"] == pytest.approx(FRAMES / summary.seconds, rel=0.01)
    stages = text["stages_ms"]
    assert stages.keys() == {"wait", "preprocess", "queue", "infer", "post", "total"}
    assert stages["total"]["max"] >= stages["infer"]["p50"] > 0


def test_a_backend_that_cannot_run_here_is_refused(
    model: Model, clip: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    tensorrt = ModelSettings(path=str(model.path), backend="tensorrt")
    assert "backend 'tensorrt' cannot run" in str(refused(make_config(model, {"door": clip}, model=tensorrt)))


def test_a_zone_for_what_the_model_does_not_know_is_refused_before_anything_runs(model: Model, clip: Path) -> None:
    zone = {"name": "lawn", "points": [[0, 0], [1, 0], [1, 1]], "labels": ["lion"]}
    with pytest.raises(ConfigError, match=r"streams\[0\].zones\[0\].labels\[0\] is 'lion', but must be one of"):
        running.run(make_config(model, {"door": {"source": clip, "zones": [zone]}}), stop=threading.Event())
