"""Whole runs whose events get clips: the books stay true, and clips outlive kill -9."""

import multiprocessing
from itertools import pairwise
from pathlib import Path

import av
import pytest

from engines.spec import Model
from pipeline.frames.clock import timestamp
from pipeline.settings.schema import Config
from pipeline.sinks.store import StoreSettings
from pipeline.store import EventStore
from pipeline.wire.packet_sockets import PacketReader
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_runs import PATIENCE_S, Run, check_books, dark_then_bright, make_config

RATE, SECONDS = 25, 6
SIZE = (64, 48)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark for three seconds, then bright: the person goes from left to right, and the scene changes."""
    draw = dark_then_bright(RATE * SECONDS, SIZE)
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    options = {"g": "25", "sc_threshold": "0", "bf": "2"}
    return write_clip(path, RATE * SECONDS, SIZE, options=options, draw=lambda index, size: draw(index))


def config_of(model: Model, clip: Path, folder: Path, links: str, **stream: object) -> Config:
    settings = StoreSettings(directory=str(folder), clips=True, before_s=1.0, after_s=1.0, min_free_gb=0.0)
    streams: dict[str, str | Path | dict[str, object]] = {"door": {"source": clip, **stream}}
    return make_config(
        model, streams, links=links, sinks=[{"kind": "store", "options": settings}], zmq={"live_picture": SIZE}
    )


def shown_s(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time or 0.0 for frame in container.decode(video=0)]


@pytest.mark.parametrize(("links", "pace"), [("queue", "camera"), ("zmq", "fast")])
def test_the_events_of_a_run_have_clips_with_the_time_before_and_after(
    model: Model, clip: Path, tmp_path: Path, links: str, pace: str
) -> None:
    run = Run(config_of(model, clip, tmp_path / "events", links, pace=pace))
    summary = run.end()
    check_books(run, summary)
    assert summary.sinks["store"].lost == {}
    with EventStore(tmp_path / "events") as store:
        events = list(store.page(limit=1000).events)
        assert events and all(event.clip is not None for event in events)
        for event in events:
            path = store.clip_file(event)
            assert path is not None
            times = shown_s(path)
            assert len(times) >= RATE
            assert max(later - earlier for earlier, later in pairwise(times)) < 0.1


def test_packets_are_read_from_outside_while_a_run_goes_on(model: Model, clip: Path, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/packets"
    stream: dict[str, object] = {"source": clip, "pace": "camera", "loop": True}
    run = Run(make_config(model, {"door": stream}, packets={"address": address}))
    run.wait(lambda run: bool(run.frames("door")))
    with PacketReader(address, ("door",)) as reader:
        packets = [packet for _ in range(50) if (packet := reader.read(PATIENCE_S)) is not None]
    check_books(run, run.end_now())
    assert packets[0].key and len(packets) == 50 and reader.lost == {"door": 0}
    captured = {frame.captured_at for frame in run.frames("door")}
    assert {timestamp(packet.captured_ns) for packet in packets} & captured  # a live stream's frames may be dropped


def test_clips_go_on_after_the_process_that_writes_them_was_killed(model: Model, clip: Path, tmp_path: Path) -> None:
    config = config_of(model, clip, tmp_path / "events", "zmq", pace="camera", loop=True)
    run = Run(config)
    run.wait(lambda run: any((tmp_path / "events" / "clips").glob("*.mp4")))
    run.wait(lambda run: len(run.frames("door")) > 2 * RATE)
    before = set((tmp_path / "events" / "clips").glob("*.mp4"))
    (finish,) = [child for child in multiprocessing.active_children() if child.name == "finish"]
    finish.kill()
    run.wait(lambda run: bool(set((tmp_path / "events" / "clips").glob("*.mp4")) - before))
    run.flows("door", RATE)
    check_books(run, run.end_now(), kills=1)
    with EventStore(tmp_path / "events") as store:
        events = store.page(limit=1000).events
        assert {event.clip for event in events if event.clip} >= {path.name for path in before}
        for path in (tmp_path / "events" / "clips").glob("*.mp4"):
            assert len(shown_s(path)) > 0
