"""Runs with ``links = "zmq"``: every stage a process of its own."""

import errno
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engines.errors import ConfigError, StageError
from engines.spec import Model
from pipeline.runtime import processes, pulse, sizing, worker_process
from pipeline.service import run as running
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import picture_bytes
from pipeline.wire.messages import EventMessage
from tests.pipeline.made_cuts import cut_clip, known, nothing_survives
from tests.pipeline.made_memory import named_memory
from tests.pipeline.made_runs import (
    PATIENCE_S,
    Run,
    check_books,
    check_ends,
    content,
    frames_in,
    make_config,
    video_of,
    videos_of,
    write_model,
)
from tests.waiting import until

FRAMES = 60  # of the clip
NAMES = ("capture 0", "prepare", "infer", "finish")
SHARDED = ("capture 0", "prepare", "infer", "postprocess 0", "postprocess 1", "finish")
THREE = ("door", "yard", "gate")


def zmq_config(model: Model, streams: dict[str, Any], **sections: object) -> Any:
    return make_config(model, streams, links="zmq", **sections)


def playing(name: str) -> set[int]:
    """The processes (pid) that play a part in this one's runs."""
    return {child.pid for child in multiprocessing.active_children() if child.name == name and child.pid}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kill(name: str) -> None:
    (pid,) = playing(name)
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def alone(model: Model, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three files in one process."""
    run = Run(make_config(model, dict.fromkeys(THREE, clip), identity=empty(tmp_path_factory.mktemp("alone"))))
    run.end()
    return run


def empty(folder: Path) -> dict[str, object]:
    """A gallery without people."""
    return {"gallery": str(folder / "gallery.sqlite"), "min_face_px": 4}


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({"zmq": {"capture_processes": 2}}, ("capture 0", "capture 1", "prepare", "infer", "finish")),
        ({"postprocess": {"shards": 2}}, SHARDED),
    ],
)
def test_messages_are_those_of_a_run_in_one_process(
    model: Model, clip: Path, tmp_path: Path, alone: Run, sections: dict[str, Any], names: tuple[str, ...]
) -> None:
    together = Run(zmq_config(model, dict.fromkeys(THREE, clip), identity=empty(tmp_path), **sections))
    together.wait(lambda run: bool(run.messages))
    assert all(playing(name) for name in names)
    summary = together.end()
    check_books(together, summary)
    assert content(together) == content(alone)
    assert len(together.frames("door")) == FRAMES
    assert summary.backend == "onnxruntime" and summary.face_crops > 0
    assert summary.stages_ms["total"]["p50"] > 0
    assert sum(size * count for size, count in summary.batches.items()) == 3 * FRAMES


def test_frames_whose_pictures_stay_where_they_were_decoded_show_what_they_do_in_one_process(
    model: Model, clip: Path
) -> None:
    sections = {"inference": {"fps": 5}, "tracking": {"camera_motion": True}}
    alone = Run(make_config(model, {"door": clip}, **sections))
    alone.end()
    together = Run(zmq_config(model, {"door": clip}, **sections))
    check_books(together, together.end())
    assert content(together) == content(alone)
    assert [frame.carried for frame in together.frames("door")].count("predicted") >= FRAMES // 3


def test_no_name_and_no_track_survives_a_hard_cut(model: Model, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = cut_clip(make_clip, tmp_path / "cuts.mp4")
    run = Run(zmq_config(model, {"door": clip}, identity=known(tmp_path / "people.sqlite", model)))
    check_books(run, run.end())
    nothing_survives(run, "door")


def test_a_shard_that_is_killed_costs_its_own_streams_alone_and_who_publishes_may_be_killed_too(
    model: Model, clip: Path
) -> None:
    looped = {"source": clip, "loop": True, "pace": "realtime"}
    run = Run(zmq_config(model, {"door": looped, "yard": looped}, postprocess={"shards": 2}))
    run.wait(lambda run: all(len(run.frames(name)) > 30 for name in ("door", "yard")))
    kill("postprocess 1")
    seen = len(run.frames("yard"))
    run.wait(lambda run: all(len(run.frames(name)) > seen + 30 for name in ("door", "yard")))
    door, yard = run.frames("door"), run.frames("yard")
    assert door[-1].dropped == {}, "another shard noticed"
    assert yard[-1].dropped.keys() <= {"crash"}
    ended = {name: {event.cause for event in run.events(name) if event.event == "ended"} for name in ("door", "yard")}
    assert "crash" in ended["yard"] and "crash" not in ended["door"]
    assert any(thing.track > 1_000_000 for frame in yard for thing in frame.objects)
    assert all(thing.track < 1_000_000 for frame in door for thing in frame.objects)
    for name, frames in (("door", door), ("yard", yard)):
        assert [frame.seq - sum(frame.dropped.values()) for frame in frames] == list(range(len(frames))), name
    kill("finish")
    seen = len(run.messages)
    run.wait(lambda run: len(run.messages) > seen + 100)
    summary = run.end_now()
    check_ends(run, "gone", "withdrawn", "stopped", "crash")
    check_books(run, summary, kills=1)
    assert all(account.dropped.keys() <= {"crash"} for account in summary.streams.values())


def test_the_summary_is_of_the_whole_run_though_who_publishes_was_killed(
    model: Model, clip: Path, tmp_path: Path
) -> None:
    looped = {"source": clip, "loop": True, "pace": "realtime"}
    sections = {"record": {"directory": str(tmp_path), "min_free_gb": 0.0}, "inference": {"fps": 5}}
    run = Run(zmq_config(model, {"door": looped, "tape": clip}, **sections))
    run.wait(lambda run: any(report.state == "ended" for report in run.health("tape")))
    run.flows("door", 40)
    kill("finish")
    run.flows("door", 40)
    summary = run.end_now()
    assert {name: end.read for name, end in summary.ends.items()} == {"tape": "all"}
    assert summary.left_out is not None and summary.left_out["door"] > 0, "the end of a file that was not finished"
    for name, account in summary.streams.items():
        in_files = sum(map(frames_in, videos_of(tmp_path, name)))
        # One may have been counted as published and not given to the recorder yet.
        assert account.published - summary.left_out.get(name, 0) - in_files in (0, 1), (name, account, in_files)
    inferred = sum(size * count for size, count in summary.batches.items())
    assert sum(account.published for account in summary.streams.values()) - summary.skipped - inferred in (0, 1)
    assert summary.skipped > FRAMES / 2 and inferred > 0


@pytest.fixture(scope="module")
def killed(model: Model, clip: Path) -> Run:
    """A run each of whose processes was killed once, the one that publishes last."""
    zone = {"name": "everywhere", "points": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    door = {"source": clip, "loop": True, "zones": [zone]}
    run = Run(
        zmq_config(model, {"door": door, "yard": {"source": clip, "loop": True, "pace": "realtime"}, "tape": clip})
    )
    run.wait(lambda run: len(run.frames("door")) > 50)
    run.wait(lambda run: any(report.state == "ended" for report in run.health("tape")))
    for name in NAMES:
        assert not [event for event in run.messages if isinstance(event, EventMessage) and event.cause == "crash"]
        kill(name)
        seen = len(run.messages), len(run.frames("door")), len(run.frames("yard"))
        run.wait(lambda run, seen=seen: len(run.messages) > seen[0] + 100)
        run.wait(lambda run, seen=seen: len(run.frames("door")) > seen[1] and len(run.frames("yard")) > seen[2])
        assert playing(name), "nobody plays the part any more"
    run.end_now()
    return run


def test_a_part_that_is_killed_is_played_on_and_what_it_held_is_counted(killed: Run) -> None:
    ends = check_ends(killed, "gone", "withdrawn", "stopped", "down", "crash")
    assert ends["object", "crash"] > 0
    assert killed.summary is not None
    for stream, account in killed.summary.streams.items():
        assert account.captured == account.published + sum(account.dropped.values()), (stream, account)
        assert account.dropped.keys() <= {"crash"}
        assert account.published > 0
        seqs = [frame.seq for frame in killed.frames(stream)]
        assert seqs == sorted(set(seqs)), "a frame came twice or out of order"
    assert any(frame.objects for frame in killed.frames("door"))


def test_whoever_is_in_a_zone_leaves_it_when_the_one_who_saw_it_is_killed(killed: Run) -> None:
    inside: set[int | None] = set()
    causes = set()
    for event in killed.events("door"):
        if event.event == "enter":
            assert event.track not in inside
            inside.add(event.track)
        elif event.event == "leave":
            inside.remove(event.track)
            causes.add(event.cause)
    assert not inside
    assert {"crash", "stopped"} <= causes
    lost = [event for event in killed.events("door") if event.cause == "crash" and event.track is not None]
    assert all(event.counts is not None for event in lost if event.event == "leave")
    assert all(event.path for event in lost if event.event == "ended")


def test_the_end_of_a_stream_is_told_once_though_who_captured_and_who_told_it_are_killed(killed: Run) -> None:
    assert [report.state for report in killed.health("tape")] == ["up", "ended"]


def test_a_file_goes_on_where_it_was_when_its_capture_is_killed(model: Model, clip: Path) -> None:
    run = Run(zmq_config(model, {"door": {"source": clip, "pace": "realtime"}}))
    run.wait(lambda run: len(run.frames("door")) > 20)
    kill("capture 0")
    account = run.end().streams["door"]
    assert account.captured == FRAMES == account.published + account.dropped.get("crash", 0)
    seqs = [frame.seq for frame in run.frames("door")]
    assert seqs == sorted(set(seqs)) and seqs[-1] == FRAMES - 1
    assert [report.state for report in run.health("door")] == ["up", "down", "up", "ended"]
    assert run.health("door")[1].cause == "its capture process died"


def test_a_hangup_ends_none_and_all_are_played_on_when_the_process_that_forked_them_is_killed(
    model: Model, clip: Path
) -> None:
    run = Run(zmq_config(model, {"door": {"source": clip, "loop": True, "pace": "realtime"}}))
    run.wait(lambda run: len(run.frames("door")) > 20)
    first = set.union(*map(playing, NAMES))
    (forked_by,) = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in first}
    for pid in (forked_by, *first):
        os.kill(pid, signal.SIGHUP)
    run.flows("door", 20)
    assert set.union(*map(playing, NAMES)) == first and not run.health("door")[1:]
    os.kill(forked_by, signal.SIGKILL)
    run.wait(lambda run: not any(map(alive, first)) and all(map(playing, NAMES)))
    run.flows("door", 20)
    account = run.end_now().streams["door"]
    assert account.captured == account.published + account.dropped.get("crash", 0)


def test_a_part_that_dies_again_and_again_ends_the_run(model: Model, clip: Path) -> None:
    run = Run(zmq_config(model, {"door": {"source": clip, "loop": True}}))
    run.wait(lambda run: len(run.frames("door")) > 0)
    end = time.monotonic() + PATIENCE_S
    while run._thread.is_alive() and time.monotonic() < end:
        for pid in playing("infer"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    with pytest.raises(StageError, match="process 'infer' died more than 5 times in a minute: killed by SIGKILL"):
        run.end()
    assert not any(playing(name) for name in NAMES)
    assert check_ends(run, "gone", "withdrawn", "stopped")["object", "stopped"] > 0


@pytest.mark.parametrize("opening", [False, True])
def test_a_process_that_is_alive_but_stuck_is_told_and_started_again(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, opening: bool
) -> None:
    """Also where it comes after another one, and hangs while it opens what it needs."""
    monkeypatch.setattr(worker_process, "STUCK_S", 5.0)
    monkeypatch.setattr(pulse, "OPENINGS", 1)
    with capture_logs() as logs:
        run = Run(zmq_config(model, {"door": {"source": clip, "loop": True}}))
        run.wait(lambda run: len(run.frames("door")) > 50)
        if opening:
            (first,) = playing("infer")
            kill("infer")
            run.wait(lambda run: bool(playing("infer") - {first}))
        (stuck,) = playing("infer")
        os.kill(stuck, signal.SIGSTOP)
        run.wait(lambda run: stuck not in playing("infer") and bool(playing("infer")))
        run.flows("door", 50)
        account = run.end_now().streams["door"]
    told = {line["event"]: line for line in logs if line.get("process") == "infer"}
    assert told["process stuck"]["silent_s"] >= 5.0
    assert told["process died"]["cause"] == "no sign of life for 5 s"
    assert account.captured == account.published + account.dropped["crash"]


def test_an_engine_that_cannot_be_opened_again_is_tried_a_few_times(tmp_path: Path, clip: Path) -> None:
    model = write_model(tmp_path / "model")
    file, away = model.file("frame", "f32"), tmp_path / "away"
    with capture_logs() as logs:
        run = Run(zmq_config(model, {"door": {"source": clip, "loop": True}}))
        run.wait(lambda run: len(run.frames("door")) > 20)
        file.rename(away)
        kill("infer")
        run.wait(lambda _: sum(line["event"] == "process died" for line in logs) > 1)
        away.rename(file)
        run.flows("door", 50)
        file.rename(away)
        kill("infer")
        with pytest.raises(StageError, match=r"process 'infer' died more than 5 times in a minute: .*frame.onnx"):
            run.end()
    told = [line["cause"] for line in logs if line["event"] == "process died"]
    assert told[0] == "killed by SIGKILL" and "frame.onnx" in told[1]
    assert not any(playing(name) for name in NAMES)


def test_frames_that_are_given_up_are_in_the_summary(model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "DRAIN_S", 1.0)
    monkeypatch.setattr(processes, "HURRY_S", 0.1)
    run = Run(zmq_config(model, {"door": {"source": clip, "loop": True, "timeout_s": 0.1}}))
    run.wait(lambda run: len(run.frames("door")) > 50)
    (stuck,) = playing("infer")
    os.kill(stuck, signal.SIGSTOP)
    summary = run.end_now()
    account = summary.streams["door"]
    assert account.dropped["shutdown"] > 0
    assert account.captured == account.published + account.dropped["shutdown"]
    last = run.health("door")[-1]
    assert (last.state, last.captured, last.published, last.dropped) == (
        "ended",
        account.captured,
        account.published,
        account.dropped,
    )


def refusing(monkeypatch: pytest.MonkeyPatch, starts: int) -> None:
    """Let no process be started after so many."""
    real, left = ForkServerProcess.start, iter(range(starts))

    def start(self: ForkServerProcess) -> None:
        if next(left, None) is None:
            raise OSError(errno.EMFILE, "Too many open files")
        real(self)

    monkeypatch.setattr(ForkServerProcess, "start", start)


def test_a_successor_that_cannot_be_started_ends_the_run(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, len(NAMES))
    run = Run(zmq_config(model, {"door": {"source": clip, "loop": True}}))
    run.wait(lambda run: len(run.frames("door")) > 0)
    kill("infer")
    with pytest.raises(StageError, match="process 'infer' cannot be started: Too many open files"):
        run.end()
    assert not any(playing(name) for name in NAMES)


@pytest.mark.parametrize("starts", [0, 3])
def test_a_process_that_cannot_be_started_at_all_ends_the_run(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, starts: int
) -> None:
    refusing(monkeypatch, starts)
    with pytest.raises(StageError, match="cannot be started: Too many open files"):
        Run(zmq_config(model, {"door": clip})).end()
    assert not any(playing(name) for name in NAMES)


def test_a_run_that_is_stopped_before_its_processes_are_ready_ends(model: Model, clip: Path) -> None:
    stop = threading.Event()
    stop.set()
    began = time.monotonic()
    summary = running.run(zmq_config(model, {"door": clip}), stop=stop, wait_for_subscriber_s=PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert summary.streams["door"].captured == 0
    assert not any(playing(name) for name in NAMES)


def run_until_killed(model: Model, clip: Path, ready: Path) -> None:
    """Run in this process, and tell the others once frames come."""
    run = Run(zmq_config(model, {"door": {"source": clip, "loop": True}}))
    run.wait(lambda run: len(run.frames("door")) > 10)
    part = ready.with_suffix(".part")
    part.write_text(" ".join(str(child.pid) for child in multiprocessing.active_children()))
    part.rename(ready)
    threading.Event().wait()


def test_nothing_is_left_when_the_first_process_is_killed(model: Model, clip: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    first = multiprocessing.get_context("spawn").Process(target=run_until_killed, args=(model, clip, ready))
    first.start()
    until(ready.exists)
    pids = [int(text) for text in ready.read_text().split()]
    assert [each for child in pids for each in named_memory(child)] == [], "it would outlive all of them"
    first.kill()
    first.join()
    until(lambda: not any(map(alive, pids)))


def test_a_recording_and_the_books_of_a_camera_are_right(model: Model, clip: Path, tmp_path: Path) -> None:
    streams: dict[str, Any] = {"door": {"source": clip, "pace": "camera"}, "tape": clip}
    run = Run(zmq_config(model, streams, record={"directory": str(tmp_path)}))
    summary = run.end()
    check_books(run, summary)
    assert summary.left_out is not None
    for name in streams:
        recorded = frames_in(video_of(tmp_path, name))
        assert recorded == summary.streams[name].published - summary.left_out.get(name, 0)
    assert summary.streams["tape"].published == FRAMES
    assert "tape" not in summary.left_out


def test_what_cannot_be_had_is_refused_before_anything_runs(model: Model, clip: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        run = Run(zmq_config(model, {"door": clip}, publish={"address": address}))
        with pytest.raises(ConfigError, match="cannot be used: Address already in use"):
            run.end()


def test_too_little_shared_memory_is_refused(model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runtime.shared_file.free_bytes", lambda: 1000)
    with pytest.raises(ConfigError, match=r'links is "zmq", which needs \d+ MiB of shared memory for \d+ frames here'):
        Run(zmq_config(model, {"door": clip})).end()


@pytest.mark.parametrize(
    ("count", "processes_", "expected"),
    [(1, None, [1]), (8, None, [8]), (9, None, [5, 4]), (30, None, [8, 8, 7, 7]), (3, 2, [2, 1]), (2, 5, [1, 1])],
)
def test_streams_are_shared_out_evenly(count: int, processes_: int | None, expected: list[int]) -> None:
    streams = tuple(StreamSettings(name=f"s{index}", source="x.mp4") for index in range(count))
    dealt = sizing.shares(streams, processes_)
    assert [len(share) for share in dealt] == expected
    assert sorted(stream.name for share in dealt for stream in share) == sorted(stream.name for stream in streams)


def test_a_slot_is_as_large_as_the_picture(clip: Path) -> None:
    assert picture_bytes(StreamSettings(name="a", source=str(clip)), (1920, 1080)) == 160 * 120 * 3 // 2
    assert picture_bytes(StreamSettings(name="a", source="rtsp://x/y"), (1920, 1080)) == 1920 * 1080 * 3 // 2
    assert picture_bytes(StreamSettings(name="a", source="0"), (640, 480)) == 640 * 480 * 3
