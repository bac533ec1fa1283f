"""What the page costs: a day of it in some minutes, and one who looks on.

python -m tests.field.page_load day [--streams 8] [--events 10000] [--minutes 5] [--browser]
python -m tests.field.page_load viewer [--seconds 20]

The server is the real one in a process of its own, behind made cameras: their messages and packets come by the sockets
of a run, their events go into a store by its own sink, with pictures and clips. ``day`` tells every half minute what
server and browser hold; ``viewer`` what part of a core the server takes for one viewer of a 1080p stream, and for none.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

import cv2
import httpx
import msgspec
import numpy as np
from websockets.sync.client import ClientConnection, connect

from engines.arrays import Pixels
from pipeline.frames.clock import timestamp
from pipeline.settings.schema import PacketSettings, PublishSettings
from pipeline.sinks.base import SinkThread
from pipeline.sinks.store import StoreSettings, StoreSink
from pipeline.sinks.zmq import Publisher
from pipeline.wire.messages import EventMessage, FrameMessage
from pipeline.wire.packet_sockets import PacketHub, PacketSender
from pipeline.wire.packets import PacketMessage
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_packets import packets_of
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
RATE = 25
LOOP = 2 * RATE  # frames of a clip, which goes round
EVERY_S = 30.0  # between two lines of a day
PATIENCE_S = 240.0  # on a busy machine
LOOK_AFTER_S = 0.2


@dataclass(frozen=True, slots=True)
class Holding:
    """What a process or several hold, in bytes."""

    server: int
    renderer: int = 0
    heap: int = 0  # of the page's JavaScript, after a collection


class MadeCameras:
    """Streams whose frames, packets and events come by a run's own sockets and sinks, in a thread.

    Args:
        folder: for the store.
        clip: what each of them shows.
        streams: how many.
        message_rate: frames of each stream that are told about, a second; all of them have packets.
        event_rate: events a second, of all streams together.
    """

    def __init__(self, folder: Path, clip: Path, streams: int, message_rate: float, event_rate: float) -> None:
        self.names = [f"camera-{number}" for number in range(streams)]
        self.events = 0
        self._packets, self._begin_ns = packets_of(clip), time.time_ns()
        self._apart = max(1, round(RATE / message_rate))
        self._event_rate, self._chance = event_rate, random.Random(1)
        self._crop = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (120, 90, 3), np.uint8))[
            1
        ].tobytes()
        self._began_s: float | None = None  # when events began
        self._stop = threading.Event()
        self._opened = ExitStack()
        self.hub = self._opened.enter_context(PacketHub(PacketSettings()))
        self.publisher = self._opened.enter_context(Publisher(PublishSettings(address="tcp://127.0.0.1:0")))
        self.store = folder / "events"
        settings = StoreSettings(directory=str(self.store), clips=True, min_free_gb=0.0, keep_gb=0.5)
        sink = StoreSink(settings)
        sink.read_packets(self.hub.address)
        self.sink = SinkThread("store", sink, 1000)
        self._senders = [PacketSender(self.hub.inner, name) for name in self.names]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sink.finish()
        self.sink.join(time.monotonic() + 10.0)
        for sender in self._senders:
            sender.close()
        self._opened.close()

    def happen(self) -> None:
        """Let events begin."""
        self._began_s = time.monotonic()

    def _run(self) -> None:
        begin_s, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, begin_s + number / RATE - time.monotonic())):
            for name, sender in zip(self.names, self._senders, strict=True):
                packet = self._packet(name, number)
                sender.look()
                sender.send(packet)
                if number % self._apart == 0:
                    self.publisher.send(self._frame(packet))
            while self._began_s is not None and self.events < (time.monotonic() - self._began_s) * self._event_rate:
                self.events += 1
                event = self._event(self._chance.choice(self.names))
                self.publisher.send(event)
                self.sink.send(event)
            number += 1

    def _packet(self, name: str, number: int) -> PacketMessage:
        """The clip goes round, its times go on."""
        packet, rounds = self._packets[number % LOOP], number // LOOP
        ticks = round(LOOP / RATE * packet.time_base[1] / packet.time_base[0]) * rounds
        time_s = packet.time_s + rounds * LOOP / RATE
        return msgspec.structs.replace(
            packet,
            stream=name,
            number=number,
            pts=(packet.pts or 0) + ticks,
            dts=(packet.dts or 0) + ticks,
            time_s=time_s,
            captured_ns=self._begin_ns + round(time_s * 1e9),
        )

    def _frame(self, packet: PacketMessage) -> FrameMessage:
        left = 10.0 + packet.number % 100
        things = [
            {"track": track, "label": label, "score": 0.8, "box": [left * track, 20.0, left * track + 60.0, 180.0]}
            for track, label in ((1, "person"), (2, "car"))
        ]
        told = {"type": "frame", "stream": packet.stream, "seq": packet.number, "size": packet.size}
        times = {"queue": 1.0, "infer": 6.0, "post": 1.0, "total": 9.0}
        told |= {"captured_at": timestamp(packet.captured_ns), "objects": things, "faces": [], "scene": []}
        return msgspec.convert(told | {"timings_ms": times, "dropped": {}}, FrameMessage)

    def _event(self, name: str) -> EventMessage:
        moment = timestamp(time.time_ns() - 300_000_000)
        told = {"type": "event", "stream": name, "seq": 1, "captured_at": moment, "event": "ended", "kind": "object"}
        seen = {"track": self.events, "label": self._chance.choice(("person", "car", "dog")), "score": 0.8}
        crop = {"captured_at": moment, "box": [1.0, 1.0, 90.0, 120.0], "jpeg": self._crop}
        path = [[step / 5, 10.0 * step, 100.0] for step in range(20)]
        return msgspec.convert(told | seen | {"best_crop": crop, "path": path, "duration_s": 4.0}, EventMessage)


@contextmanager
def served(cameras: MadeCameras, folder: Path) -> Iterator[tuple[str, int]]:
    """Serve the page of cameras; its address, and the number of the server's process."""
    place = f"127.0.0.1:{free_port()}"
    options = {"--results": cameras.publisher.address, "--packets": cameras.hub.address, "--address": place}
    options |= {"--store": str(cameras.store), "--gallery": str(folder / "people"), "--accounts": str(folder / "a")}
    command = [sys.executable, "-m", "tools.main", "view", *(part for pair in options.items() for part in pair)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(f"http://{place}/readyz"))
        yield f"http://{place}", process.pid
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(what: Callable[[], bool]) -> None:
    """Return once it is so; AssertionError after a while."""
    end_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end_s, "in vain"
        time.sleep(LOOK_AFTER_S)


def resident(pid: int) -> int:
    """Bytes of memory that are a process's own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def processor_s(pid: int) -> float:
    """Seconds of a core that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Looker:
    """Somebody whose browser is open on the page, now on one view of it and now on another.

    The browser is spoken to without Playwright, which has it keep the content of all that it loads, up to 100 MB.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder, self._turn = address, folder, 0
        self._opened, self._ids = ExitStack(), count(1)

    def __enter__(self) -> Self:
        told = [f"--user-data-dir={self._folder}/browser", "--remote-debugging-port=0", "--window-size=1280,860"]
        command = [CHROMIUM, "--headless=new", "--no-sandbox", *told, f"{self._address}/#/live"]
        browser = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._opened.callback(browser.wait)
        self._opened.callback(browser.terminate)
        assert browser.stderr is not None
        said = next(line for line in browser.stderr if line.startswith("DevTools listening on "))
        threading.Thread(target=lambda: [None for _ in browser.stderr or ()], daemon=True).start()
        whole = said.split()[-1]
        with urllib.request.urlopen(f"http://{whole.split('/')[2]}/json") as answer:
            page = next(each["webSocketDebuggerUrl"] for each in json.load(answer) if each["type"] == "page")
        self._browser, self._page = (self._opened.enter_context(connect(each, max_size=None)) for each in (whole, page))
        self._ask(self._page, "Performance.enable")
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def _ask(self, to: ClientConnection, method: str, **params: object) -> Any:
        number = next(self._ids)
        to.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(to.recv(PATIENCE_S))).get("id") != number:
            pass
        return answer["result"]

    def turn(self) -> None:
        """Go to the other view."""
        self._turn += 1
        view = ("live", "events")[self._turn % 2]
        self._ask(self._page, "Runtime.evaluate", expression=f"location.hash = '#/{view}'")

    def wait(self, seconds: float) -> None:
        """Let the page go on."""
        time.sleep(seconds)

    def holding(self, server: int) -> Holding:
        """What page and server hold now."""
        self._ask(self._page, "HeapProfiler.collectGarbage")
        figures = self._ask(self._page, "Performance.getMetrics")["metrics"]
        heap = next(figure["value"] for figure in figures if figure["name"] == "JSHeapUsedSize")
        processes = self._ask(self._browser, "SystemInfo.getProcessInfo")["processInfo"]
        renderers = [resident(each["id"]) for each in processes if each["type"] == "renderer"]
        return Holding(resident(server), sum(renderers), int(heap))


class NoLooker:
    """Nobody looks on: one connection reads all messages, as a page does."""

    def __init__(self, address: str, streams: list[str]) -> None:
        self._opened = ExitStack()
        self._url = f"{address.replace('http', 'ws', 1)}/api/live?streams={','.join(streams)}"

    def __enter__(self) -> Self:
        messages = self._opened.enter_context(connect(self._url))
        threading.Thread(target=lambda: [None for _ in messages], daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def turn(self) -> None:
        """There is but one."""

    def wait(self, seconds: float) -> None:
        """Let it go on."""
        time.sleep(seconds)

    def holding(self, server: int) -> Holding:
        """What the server holds now."""
        return Holding(resident(server))


def day(folder: Path, streams: int, events: int, seconds: float, browser: bool, every_s: float) -> list[Holding]:
    """Let a day go by and return what was held, one after the other."""
    clip = write_clip(folder / "clip.mp4", LOOP, (320, 240), options={"g": str(RATE), "bf": "0"})
    held = []
    with (
        MadeCameras(folder, clip, streams, 5.0, events / seconds) as cameras,
        served(cameras, folder) as (address, pid),
        Looker(address, folder) if browser else NoLooker(address, cameras.names) as looker,
    ):
        cameras.happen()
        while cameras.events < events:
            looker.wait(every_s)
            held.append(looker.holding(pid))
            counts = cameras.sink.counts
            mega = [f"{value / 1e6:7.1f}" for value in (held[-1].server, held[-1].renderer, held[-1].heap)]
            print(f"{cameras.events:6d} events, MB {' '.join(mega)}; lost {counts.lost or 'none'}", flush=True)
            looker.turn()
    return held


def viewer(folder: Path, seconds: float) -> tuple[float, float]:
    """Return the shares of a core that the server takes for nobody, and for one viewer of a 1080p stream."""
    options = {"g": str(RATE), "bf": "0", "preset": "ultrafast", "b": "4M", "maxrate": "5M", "bufsize": "2M"}
    clip = write_clip(folder / "clip.mp4", LOOP, (1920, 1080), options=options, draw=restless)
    with MadeCameras(folder, clip, 1, RATE, 0.0) as cameras, served(cameras, folder) as (address, pid):
        time.sleep(3.0)  # what it does once is done
        idle = _share(pid, seconds)
        received = [0]
        with connect(f"{address.replace('http', 'ws', 1)}/api/video/camera-0", max_size=None) as video:
            threading.Thread(target=lambda: [received.append(len(part)) for part in video], daemon=True).start()
            with NoLooker(address, cameras.names):
                time.sleep(2.0)
                before = sum(received)
                looked = _share(pid, seconds)
        print(f"one viewer was sent {8 * (sum(received) - before) / seconds / 1e6:.1f} Mbit/s")
    return idle, looked


def restless(number: int, size: tuple[int, int]) -> Pixels:
    """A picture in which much changes, so that as much is sent as of a street, RGB (H, W, 3)."""
    small = np.random.default_rng(number).integers(0, 255, (size[1] // 16, size[0] // 16, 3), np.uint8)
    return cv2.resize(small, size)  # type: ignore[return-value]


def _share(pid: int, seconds: float) -> float:
    before_s = processor_s(pid)
    time.sleep(seconds)
    return (processor_s(pid) - before_s) / seconds


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("day", "viewer"))
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--browser", action="store_true", help="a real one is open on the page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trunkline-load-") as folder:
        if given.what == "viewer":
            idle, looked = viewer(Path(folder), given.seconds)
            print(f"of a core: nobody {100 * idle:.1f} %, one viewer {100 * looked:.1f} %")
        else:
            print("anonymous memory of server and renderers, and the page's heap")
            day(Path(folder), given.streams, given.events, 60 * given.minutes, given.browser, EVERY_S)


if __name__ == "__main__":
    main()
