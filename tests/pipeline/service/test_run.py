"""Whole runs: every frame is accounted for, whatever happens on its way."""

import json
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.typing import EventDict

from engines.spec import Model, Thresholds
from pipeline.runtime import supervision, threads
from pipeline.runtime.postprocess import effective_thresholds, low_score_thresholds
from pipeline.service import run as running
from pipeline.settings.schema import InferenceSettings
from pipeline.wire.messages import HealthMessage
from tests.pipeline.made_runs import (
    PATIENCE_S,
    Run,
    check_books,
    check_ends,
    make_config,
)
from tests.pipeline.made_sources import QUIET_S, HangingFile, not_a_pipe
from tests.pipeline.service.made_faults import FRAMES, SIZE, slowed

pytestmark = pytest.mark.usefixtures("logs", "no_thread_is_left")


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
    summary = run.end_now()
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
    summary = run.end_now()
    check_books(run, summary)
    assert (summary.streams["file"].published, summary.streams["file"].dropped) == (FRAMES, {})


def test_frames_of_a_dead_stream_are_not_waited_for(model: Model, clip: Path) -> None:
    streams = {"dead": {"source": "rtsp://127.0.0.1:9/none", "reconnect_min_s": 0.01}, "file": clip}
    run = Run(make_config(model, streams))
    run.wait(lambda run: any(report.state == "ended" for report in run.health("file")))
    summary = run.end_now()
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


def test_a_stop_in_the_middle_lets_frames_on_their_way_finish(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, 0.02)
    run = Run(make_config(model, {"door": {"source": clip, "loop": True}, "yard": {"source": clip, "loop": True}}))
    run.wait(lambda run: len(run.frames("door")) > FRAMES)
    summary = run.end_now()
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
    summary = run.end_now()
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
    summary = run.end_now()
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


def test_a_password_in_a_source_is_never_told(model: Model, clip: Path, logs: list[EventDict]) -> None:
    door = {"source": "rtsp://ada:hunter2@127.0.0.1:9/live", "reconnect_min_s": 0.01}
    run = Run(make_config(model, {"door": door, "file": clip}))
    run.wait(lambda run: bool(run.health("door")) and len(run.frames("file")) == FRAMES)
    summary = run.end_now()
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
