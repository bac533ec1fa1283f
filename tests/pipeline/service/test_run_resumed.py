"""A run that goes on where a lost one was."""

from collections.abc import Callable
from pathlib import Path

from engines.spec import Model
from pipeline.frames.counters import FrameCounters, FrameCounts
from pipeline.runtime.event_publisher import EventPublisher
from pipeline.runtime.resuming import Resumed
from pipeline.service.control import Control
from pipeline.sinks.zmq import Publisher
from tests.pipeline.made_runs import Run, dark_then_bright, make_config

FRAMES = 20


def test_a_file_goes_on_behind_its_last_frame_and_its_books_count_on(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", FRAMES, (160, 120), draw=dark_then_bright(FRAMES, (160, 120)))
    before = FrameCounts(captured=12, published=9, dropped={"stale": 1, "crash": 2})
    config, control = make_config(model, {"door": clip}), Control()
    run = Run(config, control=control, held=True)
    run.wait(lambda run: control.reading() is not None)
    control.add(config.streams[0], Resumed(before, restarts=1))
    run.wait(lambda run: bool(run.health("door")) and run.health("door")[-1].state == "ended")
    summary = run.end_now()
    frames = run.frames("door")
    assert [frame.seq for frame in frames] == list(range(12, FRAMES))
    assert all(frame.dropped == {"stale": 1, "crash": 2} for frame in frames)
    assert summary.streams["door"] == FrameCounts(20, 17, {"stale": 1, "crash": 2})
    assert (run.health("door")[-1].captured, run.health("door")[-1].published) == (20, 17)
    tracks = {seen.track for frame in frames for seen in frame.objects}
    assert tracks and min(tracks) > 1_000_000


def test_lines_count_on(model: Model) -> None:
    line = {"name": "kerb", "points": [[0.0, 0.5], [1.0, 0.5]]}
    config = make_config(model, {"door": {"source": "door.mp4", "lines": [line]}})
    with Publisher(config.publish) as publisher:
        events = EventPublisher(publisher, FrameCounters(), model.spec, config)
        events.begin(config.streams[0], {"kerb": {"a_to_b": {"person": 2}}})
        assert events.counts("door")["kerb"]["a_to_b"] == {"person": 2}
