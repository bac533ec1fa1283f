"""Streams that are added, changed and removed while a run of processes goes on."""

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engines.errors import ConfigError
from engines.spec import Model
from pipeline.service.control import Control
from pipeline.settings.schema import StreamSettings
from tests.pipeline.made_runs import (
    Run,
    check_books,
    check_ends,
    frames_in,
    is_finished,
    make_config,
    video_of,
    videos_of,
)

SEED = 7


class Controlled(Run):
    """A run of processes and its control."""

    def __init__(self, model: Model, streams: dict[str, Any], **sections: object) -> None:
        self.control = Control()
        super().__init__(make_config(model, streams, links="zmq", **sections), control=self.control)
        self.wait(lambda run: bool(self.control.streams()))


def paced(clip: Path, name: str, **values: Any) -> StreamSettings:
    return StreamSettings(name=name, source=str(clip), pace="realtime", loop=True, timeout_s=0.5, **values)


def looped(clip: Path) -> dict[str, object]:
    return {"source": clip, "pace": "realtime", "loop": True, "timeout_s": 0.5}


def test_streams_come_and_go_and_the_books_and_the_videos_are_true(model: Model, clip: Path, tmp_path: Path) -> None:
    sections = {"zmq": {"spare_streams": 1}, "postprocess": {"shards": 2}}
    recorded = {"directory": str(tmp_path), "min_free_gb": 0.0}
    run = Controlled(model, {"door": looped(clip)}, record=recorded, **sections)
    run.flows("door")
    with pytest.raises(ConfigError, match="stream 'yard': its pictures take 3110400 bytes, more than the 28800"):
        run.control.add(StreamSettings(name="yard", source="rtsp://cam/1"))
    run.control.add(paced(clip, "yard"))
    run.flows("yard")
    run.control.change(StreamSettings(name="yard", source=str(clip), pace="camera", loop=True))
    run.flows("yard")
    with pytest.raises(ConfigError, match="stream 'gate' cannot be added: there is shared memory for 2 streams"):
        run.control.add(paced(clip, "gate"))
    run.control.remove("door")  # of the first capture process, which has nothing more to do
    run.wait(lambda run: is_finished(video_of(tmp_path, "door")))
    run.flows("yard")
    assert [stream.name for stream in run.control.streams()] == ["yard"]
    run.control.add(paced(clip, "door"))
    run.flows("door")
    run.control.remove("yard")
    summary = run.end_now()
    check_books(run, summary)
    check_ends(run, "gone", "withdrawn", "stopped", "down")
    told = [(report.state, report.cause) for report in run.health("yard")]
    assert told == [("up", "160x120 h264"), ("down", "changed"), ("up", "160x120 h264"), ("ended", "removed")]
    assert [report.cause for report in run.health("door") if report.state == "ended"] == [
        "removed",
        "the run was stopped",
    ]
    for name, account in summary.streams.items():
        recorded_frames = sum(map(frames_in, videos_of(tmp_path, name)))
        assert recorded_frames == account.published - (summary.left_out or {}).get(name, 0)
    assert "door" not in (summary.left_out or {}), "it waits for its recording"
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("capture")]


def test_who_is_started_again_knows_the_streams_thresholds_and_rates_that_there_are(model: Model, clip: Path) -> None:
    run = Controlled(model, {"door": looped(clip)})
    everywhere = {"name": "everywhere", "points": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    zoned = make_config(model, {"yard": looped(clip) | {"zones": [everywhere]}}).streams[0]
    run.control.add(zoned)
    run.flows("yard", 20)
    run.control.tune({"inference.object_score": 0.99, "inference.fps": "auto"})
    run.wait(lambda run: not run.frames("yard")[-1].objects and bool(run.frames("yard")[-1].carried))
    tuned = len(run.frames("yard"))
    for name in ("prepare", "finish", "capture 1"):
        (pid,) = {child.pid for child in multiprocessing.active_children() if child.name == name}
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        run.flows("yard", 20)
    assert not any(frame.objects for frame in run.frames("yard")[tuned:]), "found by the model's own threshold"
    full = msgspec.structs.replace(zoned, inference_fps="full")
    run.control.change(full)
    run.wait(lambda run: not any(frame.carried for frame in run.frames("yard")[-20:]))
    run.control.tune({"inference.object_score": None})
    run.wait(lambda run: bool(run.frames("yard")[-1].objects))
    assert full in run.control.streams()
    assert [report.cause for report in run.health("yard") if report.state == "down"] == ["its capture process died"]
    run.control.remove("yard")
    summary = run.end_now()
    for account in summary.streams.values():
        assert account.captured == account.published + sum(account.dropped.values())
    assert {event.name for event in run.events("yard") if event.kind == "zone"} == {"everywhere"}
    assert (run.health("yard")[-1].state, run.health("yard")[-1].cause) == ("ended", "removed")


def test_random_calls_keep_the_books(model: Model, clip: Path) -> None:
    made, there = random.Random(SEED), {"a"}
    run = Controlled(model, {"a": looped(clip)}, zmq={"spare_streams": 2})
    for _ in range(12):
        verb, name = made.choice(["add", "change", "remove"]), made.choice("abc")
        value: Any = name if verb == "remove" else paced(clip, name, reconnect_max_s=made.choice([3.0, 4.0]))
        possible = (name not in there) if verb == "add" else name in there
        if possible:
            getattr(run.control, verb)(value)
            there = there - {name} if verb == "remove" else there | {name}
        else:
            with pytest.raises(ConfigError):
                getattr(run.control, verb)(value)
        assert {stream.name for stream in run.control.streams()} == there
    for name in there:
        run.flows(name)
    summary = run.end_now()
    check_books(run, summary)
    check_ends(run, "gone", "withdrawn", "stopped", "down")
