"""A shard and its driver's inbox, without Ray."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq.auth

from engines.errors import ConfigError, ModelError, StageError
from engines.spec import Model
from pipeline.cluster.placement import config_of_shard
from pipeline.cluster.ray import ShardInbox, joined, reason_of, run_on_ray
from pipeline.cluster.shard import Runner, StreamShard
from pipeline.frames.counters import FrameCounts
from pipeline.runtime.resuming import Resumed
from pipeline.service.control import Control
from pipeline.service.run import run as run_pipeline
from pipeline.settings.schema import Config
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage, HealthMessage, Message
from tests.pipeline.made_runs import make_config
from tools.start import missing_extra

PATIENCE_S = 30.0
FRAMES = 10
NEW = Resumed(FrameCounts(0, 0, {}))


def shard_of(config: Config, driver_key: str) -> StreamShard:
    config = config_of_shard(config, config.streams)
    runner = Runner(run_pipeline, Control)
    return StreamShard(config, runner, driver_key, os.getcwd(), "127.0.0.1", "node")


def test_the_driver_hears_all_and_nobody_else_anything(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", FRAMES, (160, 120))
    with ShardInbox() as inbox:
        config = make_config(model, {"door": clip})
        shard = shard_of(config, inbox.public_key)
        opened = shard.opened()
        _, stranger = zmq.auth.create_certificates(tmp_path, "stranger")
        (tmp_path / "shard.key").write_text(opened.server_key)
        with Subscriber(opened.address, server_key=tmp_path / "shard.key", client_key=stranger) as subscriber:
            assert subscriber.receive(0.3) is None
            inbox.connect(3, opened)
            shard.add(config.streams[0], NEW)
            told: list[Message] = []
            end_s = time.monotonic() + PATIENCE_S
            while not (told and isinstance(told[-1], HealthMessage) and told[-1].state == "ended"):
                assert time.monotonic() < end_s
                for number, message in inbox.receive(0.1):
                    assert number == 3
                    told.append(message)
            assert subscriber.receive(0.1) is None
        shard.stop()
        while (report := shard.report()).summary is None:
            time.sleep(0.01)
    assert [message.seq for message in told if isinstance(message, FrameMessage)] == list(range(FRAMES))
    assert report.counts == {"door": FrameCounts(FRAMES, FRAMES, {})}


def test_a_shard_that_cannot_run_says_why(model: Model, tmp_path: Path) -> None:
    config = make_config(model, {"door": "rtsp://127.0.0.1:9/door"}, model={"path": str(tmp_path)})
    with ShardInbox() as inbox:
        shard = shard_of(config, inbox.public_key)
        with pytest.raises(ModelError):
            shard.opened()
        with pytest.raises(StageError, match="ModelError"):
            shard.report()


@pytest.mark.parametrize(
    "address", ["nonsense", "ray://127.0.0.1:10001", "127.0.0.1:none", "127.0.0.1:9", "127.0.0.1:99999"]
)
def test_an_address_without_a_cluster_is_refused_at_once(model: Model, tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'trunkline[cluster]')")
    config = make_config(model, {"door": "rtsp://127.0.0.1:9/door"})
    with pytest.raises(ConfigError, match=f"--ray is '{address}', but"):
        run_on_ray(config, address, Runner(run_pipeline, Control), stop=threading.Event())


def test_a_cluster_that_does_not_start_is_refused_in_a_sentence(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'trunkline[cluster]')")

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray has it

    monkeypatch.setattr(ray, "init", init)
    config = make_config(model, {"door": "rtsp://127.0.0.1:9/door"})
    with pytest.raises(ConfigError, match="no cluster can be joined there: The current node timed out during startup"):
        run_on_ray(config, "local", Runner(run_pipeline, Control), stop=threading.Event())


def test_without_ray_the_extra_is_named(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    config = make_config(model, {"door": tmp_path / "clip.mp4"})
    with pytest.raises(ModuleNotFoundError) as raised:
        run_on_ray(config, "local", Runner(run_pipeline, Control), stop=threading.Event())
    sentence = missing_extra(raised.value)
    assert sentence is not None and "pip install 'trunkline[cluster]'" in sentence


def test_a_run_on_ray_is_still_stopped_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'trunkline[cluster]')")
    mine = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)))  # as Ray's does
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with joined("local"):
        assert signal.getsignal(signal.SIGTERM) is mine


def test_of_what_ray_says_the_reason_is_told() -> None:
    said = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: ShardActor\n"
        "The actor is dead because its worker process has died. Some common causes include: (1) a lack of memory."
    )
    assert reason_of(RuntimeError(said)) == "The actor is dead because its worker process has died"
    assert reason_of(RuntimeError()) == "RuntimeError"
