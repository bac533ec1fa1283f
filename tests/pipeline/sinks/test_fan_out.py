"""Sinks in whole runs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from engines.errors import ConfigError
from engines.spec import Model
from pipeline.settings.schema import Config, PublishSettings, SinkSettings, StreamSettings
from pipeline.sinks import fan_out
from pipeline.sinks.base import SinkCounts
from pipeline.sinks.fan_out import Sinks
from pipeline.sinks.jsonl import JsonLinesSettings
from pipeline.wire.messages import HealthMessage, Message, decode
from tests.pipeline.made_runs import Run, check_books, dark_then_bright, make_config, write_model

FRAMES = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("model") / "made")


@pytest.mark.integration
@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_every_sink_has_every_message_in_the_same_order(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, links: Literal["queue", "zmq"]
) -> None:
    clip, written = tmp_path / "clip.mp4", tmp_path / "run.jsonl"
    make_clip(clip, frames=FRAMES, size=(64, 48), draw=dark_then_bright(FRAMES, (64, 48)))
    sink = SinkSettings(kind="jsonl", name="archive", options=JsonLinesSettings(path=str(written)))
    run = Run(make_config(model, {"door": clip}, links=links, sinks=(sink,)))
    summary = run.end()
    check_books(run, summary)
    assert [decode(line) for line in written.read_bytes().splitlines()] == run.messages
    count = len(run.messages)
    assert summary.to_json()["sinks"] == {
        "publish": {"sent": count, "lost": {}},
        "archive": {"sent": count, "lost": {}},
    }


@pytest.mark.integration
def test_sinks_that_hang_or_fail_cost_a_run_nothing(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    class Hangs:
        def send(self, message: Message) -> None:
            gate.wait()

        def close(self) -> None:
            pass

    class Fails(Hangs):
        def send(self, message: Message) -> None:
            raise ConnectionResetError

    kinds = {"hangs": Hangs, "fails": Fails}
    monkeypatch.setattr(fan_out, "load_from", lambda group, kind: lambda options: kinds[kind]())
    clip = make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=(64, 48), draw=dark_then_bright(FRAMES, (64, 48)))
    run = Run(make_config(model, {"door": clip}, sinks=tuple(SinkSettings(kind=kind, queue=2) for kind in kinds)))
    summary = run.end()
    gate.set()
    check_books(run, summary)
    count = len(run.messages)
    assert summary.streams["door"].published == FRAMES
    assert summary.sinks["publish"] == SinkCounts(count, {})
    assert summary.sinks["hangs"] == SinkCounts(0, {"full": count - 2, "shutdown": 2})
    assert (summary.sinks["fails"].sent, sum(summary.sinks["fails"].lost.values())) == (0, count)
    assert run.health("door")[-1].sinks["hangs"]["full"] > 0


def test_a_sink_that_cannot_be_opened_is_refused_by_its_name_and_nothing_stays_open(tmp_path: Path) -> None:
    door = StreamSettings(name="door", source="0")
    with Sinks(Config(streams=(door,), publish=PublishSettings(address="tcp://127.0.0.1:0"))) as first:
        address = first.address
    options = JsonLinesSettings(path=str(tmp_path / "none" / "a"))
    config = Config(
        streams=(door,),
        publish=PublishSettings(address=address),
        sinks=(SinkSettings(kind="jsonl", name="archive", options=options),),
    )
    for _ in range(2):  # the port is free again
        with pytest.raises(ConfigError, match=r"^sink 'archive': path is "):
            Sinks(config)


def test_a_second_results_socket_is_a_sink(tmp_path: Path) -> None:
    written = SinkSettings(kind="jsonl", options=JsonLinesSettings(path=str(tmp_path / "a")))
    second = SinkSettings(kind="zmq", options=PublishSettings(address=f"ipc://{tmp_path}/second"))
    publish = PublishSettings(address="tcp://127.0.0.1:0")
    with Sinks(
        Config(streams=(StreamSettings(name="door", source="0"),), publish=publish, sinks=(written, second))
    ) as sinks:
        sinks.send(HealthMessage(stream="door", at="", state="up", cause=""))
    assert {name: counts.sent for name, counts in sinks.counts.items()} == {"publish": 1, "jsonl": 1, "zmq": 1}
