"""Frames go on while a broker, a webhook's target and the disk fail at random: a run, and the figures of it.

``python -m tests.integration.failing_targets 600`` goes on for ten minutes and prints JSON. Windows in which all is
well take turns with windows in which everything fails, so that both have the same machine. The disk fails for this
process alone: the kernel refuses to let any of its files grow (RLIMIT_FSIZE), its log among them.
"""

import contextlib
import json
import random
import resource
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Health
from pipeline.runtime.logs import LogSettings, configure_logging
from pipeline.settings.schema import Config, SinkSettings, StreamSettings
from pipeline.sinks.jsonl import JsonLinesSink
from pipeline.sinks.mqtt import MqttSettings
from pipeline.sinks.store import StoreSettings
from pipeline.sinks.webhook import WebhookSettings
from pipeline.sinks.webhook.spool import SUFFIX, Delivery
from pipeline.store import EventStore
from pipeline.wire.messages import EventMessage, FrameMessage
from tests.pipeline.made_runs import PATIENCE_S, Run, check_books, make_config, write_model
from tests.pipeline.sinks.mqtt.made_broker import Broker, Wire, cuttable, retained
from tests.pipeline.sinks.webhook.made_server import OK, Server, answer, cut_short, hang_up, reset, rubbish
from tests.waiting import until

RATE_HZ, STREAMS = 25, ("door", "yard", "attic")
PICTURES = [Picture.from_rgb(np.full((48, 64, 3), grey, np.uint8)) for grey in (40, 220)]
TURN = 30  # frames after which the person is at the other side
NONE = resource.RLIM_INFINITY


def _hang(connection: socket.socket) -> None:
    connection.settimeout(2.0)
    with contextlib.suppress(OSError):
        connection.recv(1)


FAILURES: list[str | Callable[[socket.socket], None]] = [
    *(answer(500), answer(503, "Retry-After: 1"), answer(429), answer(408)),
    *(hang_up, reset, _hang, cut_short, rubbish),
]


def camera(
    settings: StreamSettings, *, stop: threading.Event, health: Callable[[Health], None], first_seq: int = 0, **_: Any
) -> Iterator[Frame]:
    """A camera whose frames come by the clock until it is stopped."""
    health(Health(settings.name, "up", "64x48 made", time.time_ns()))
    seq, began = first_seq, time.monotonic()
    while not stop.wait(max(0.0, began + (seq - first_seq) / RATE_HZ - time.monotonic())):
        picture = PICTURES[seq // TURN % 2]
        yield Frame(settings.name, seq, time.time_ns(), time.monotonic_ns(), seq / RATE_HZ, picture)
        seq += 1


class Targets:
    """The broker, the webhook's target and the disk: each well, or failing in ways of its own."""

    def __init__(self, broker: Broker, wire: Wire, server: Server, dice: random.Random) -> None:
        self._broker, self._wire, self._server, self._dice = broker, wire, server, dice
        self.failures = {"broker cut": 0, "broker killed": 0, "webhook": 0, "disk": 0}

    def storm(self, seconds: float) -> None:
        """Let all of them fail at random, and be well again at the end."""
        over = threading.Event()
        parts = [threading.Thread(target=each, args=(over, seed)) for seed, each in enumerate(self._parts())]
        for part in parts:
            part.start()
        time.sleep(seconds)
        over.set()
        for part in parts:
            part.join()
        self._server.script.clear()

    def _parts(self) -> list[Callable[[threading.Event, int], None]]:
        return [self._fail_broker, self._fail_webhook, self._fail_disk]

    def _fail_broker(self, over: threading.Event, seed: int) -> None:
        dice = random.Random(self._dice.random() + seed)
        while not over.wait(dice.uniform(0.0, 1.0)):
            self._wire.cut()
            killed = dice.random() < 0.2
            if killed:
                self._broker.kill()
            self.failures["broker killed" if killed else "broker cut"] += 1
            over.wait(dice.uniform(0.0, 1.5))
            if killed:
                self._broker.start(lift_limits)
            self._wire.mend()

    def _fail_webhook(self, over: threading.Event, seed: int) -> None:
        dice = random.Random(self._dice.random() + seed)
        tries = self._server.tries
        while not over.wait(0.01):
            while len(self._server.script) < 4:
                self._server.script.append(dice.choice([*FAILURES, OK]))
        self.failures["webhook"] += self._server.tries - tries

    def _fail_disk(self, over: threading.Event, seed: int) -> None:
        dice = random.Random(self._dice.random() + seed)
        while not over.wait(dice.uniform(0.0, 0.5)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, NONE))
            self.failures["disk"] += 1
            over.wait(dice.uniform(0.0, 1.0))
            lift_limits()


def lift_limits() -> None:
    """Files may grow again; also in a process that was begun while they must not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (NONE, NONE))


def config_of(folder: Path, broker_port: int, hook_port: int) -> Config:
    """The run, with every sink that writes somewhere."""
    hook = {"url": f"http://127.0.0.1:{hook_port}/", "allow": ["127.0.0.1"], "spool": str(folder / "spool")}
    kinds: dict[str, tuple[type[Any], dict[str, Any]]] = {
        "mqtt": (MqttSettings, {"host": "127.0.0.1", "port": broker_port}),
        "webhook": (WebhookSettings, {**hook, "timeout_s": 1.0, "max_waiting": 100_000}),
        "store": (StoreSettings, {"directory": str(folder / "events"), "min_free_gb": 0.0}),
        "jsonl": (JsonLinesSink.Settings, {"path": str(folder / "all.jsonl")}),
    }
    return make_config(
        write_model(folder / "model"),
        {name: f"rtsp://made/{name}" for name in STREAMS},
        events={"best_crops": True},
        record={"directory": str(folder / "video"), "min_free_gb": 0.0},
        sinks=tuple(
            SinkSettings(kind=kind, options=msgspec.convert(keys, settings)) for kind, (settings, keys) in kinds.items()
        ),
    )


def quantiles(times_ms: list[float]) -> dict[str, float]:
    """Of latencies in milliseconds."""
    ordered = sorted(times_ms)
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "worst": 1.0}
    found = {
        name: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2) for name, share in shares.items()
    }
    return {"frames": len(ordered), **found}


def delivered(folder: Path, server: Server) -> set[str]:
    """The ids of deliveries that have arrived or wait in the spool."""
    waiting = {
        msgspec.msgpack.decode(file.read_bytes(), type=Delivery).id for file in (folder / "spool").glob(f"*{SUFFIX}")
    }
    return waiting | {got.headers["webhook-id"] for got in server.got}


def fail(folder: Path, seconds: float, window_s: float, seed: int) -> dict[str, Any]:
    """Run for so long; return the figures. Raises AssertionError where books do not hold."""
    dice, windows = random.Random(seed), []
    with Broker(folder) as broker, cuttable(broker.port) as wire, Server() as server:
        targets = Targets(broker, wire, server, dice)
        run = Run(config_of(folder, wire.port, server.port), source=camera)
        run.wait(lambda run: all(run.frames(name) for name in STREAMS))
        time.sleep(min(2.0, window_s))  # the engine is warm
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            time.sleep(window_s)
            calm = time.monotonic()
            targets.storm(window_s)
            windows.append((began, calm, time.monotonic()))
        until(lambda: retained(broker.port).get("trunkline/status") == b"online", PATIENCE_S)
        summary = run.end_now()
        check_books(run, summary)
        kept = retained(broker.port)
        ids = delivered(folder, server)
    events = [message for message in run.messages if isinstance(message, EventMessage)]
    for name in STREAMS:
        health = msgspec.json.decode(kept[f"trunkline/{name}/health"])
        assert (health["state"], health["published"]) == ("ended", summary.streams[name].published)
        assert kept[f"trunkline/{name}/count/person"] == b"0"
    lost = {name: sum(counts.lost.values()) for name, counts in summary.sinks.items()}
    assert len(ids) + lost["webhook"] == len(events), (len(ids), summary.sinks, len(events))
    with EventStore(folder / "events") as store:
        ((rows,),) = store.file.rows("SELECT count(*) FROM events")
    assert rows + lost["store"] == len(events), (rows, lost["store"], len(events))
    return {
        "seconds": round(windows[-1][2] - windows[0][0], 1),
        "failures": targets.failures,
        "events": len(events),
        "dropped": {name: account.dropped for name, account in summary.streams.items()},
        "sinks": {name: {"sent": each.sent, "lost": each.lost} for name, each in summary.sinks.items()},
        "latency_ms": {
            "all well": quantiles(latencies(run, [(began, calm) for began, calm, _ in windows])),
            "failing": quantiles(latencies(run, [(calm, end) for _, calm, end in windows])),
        },
    }


def latencies(run: Run, windows: list[tuple[float, float]]) -> list[float]:
    """From capture to message, of the frames that came within some spans of time."""
    return [
        message.timings_ms.total
        for message, at in zip(run.messages, run.received_s, strict=True)
        if isinstance(message, FrameMessage) and any(begin <= at < end for begin, end in windows)
    ]


if __name__ == "__main__":
    configure_logging(LogSettings("error", as_json=True))
    wanted_s = float(sys.argv[1])
    with tempfile.TemporaryDirectory() as made:
        found = fail(Path(made), wanted_s, min(15.0, wanted_s / 4), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 7)
    print(json.dumps(found))
