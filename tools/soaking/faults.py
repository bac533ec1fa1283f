"""Faults: each breaks something, and heals it before it returns where it does not heal by itself."""

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import zmq

from pipeline.runtime.pulse import STUCK_S
from tools.benchmarking.processes import descriptors
from tools.soaking.camera import RATE, Camera, wait_until
from tools.soaking.trunkline import Trunkline

BREAK_S: Final = 4.0  # for which most faults last: longer than the streams' timeout
FLAPS: Final = 10
PEERS: Final = 200
SUBSCRIBERS: Final = 500
PAGE_CLIENTS: Final = 50
TAKEN_S: Final = 20.0  # in which an engine has its next batch
THROUGH_S: Final = 1.0  # in which what was behind that batch is through
BUSY: Final = "while True: pass"


@dataclass(frozen=True, slots=True)
class Bench:
    """What there is to break."""

    trunkline: Trunkline
    camera: Camera  # of the stream that is broken
    random: random.Random


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Attributes:
        name: in tables.
        room: source, process, machine or readers.
        breaks: does it.
        whole: whether all streams may notice it, rather than the broken one alone.
        processes: whether it needs a run of processes.
        silent_s: how long the run waits before it takes it for a fault.
        noticed: whether it is over only once something was told of the broken stream: it may have frames on their way.
    """

    name: str
    room: str
    breaks: Callable[[Bench], None]
    whole: bool = False
    processes: bool = False
    noticed: bool = False
    silent_s: float = 0.0


def _server_killed(bench: Bench) -> None:
    bench.camera.kill()
    time.sleep(BREAK_S)
    bench.camera.start()


def _frozen(bench: Bench) -> None:
    bench.camera.frozen = True
    time.sleep(BREAK_S)
    bench.camera.frozen = False


def _slow(bench: Bench) -> None:
    bench.camera.rate = 1.0
    time.sleep(BREAK_S)
    bench.camera.rate = float(RATE)


def _cut(bench: Bench) -> None:
    bench.camera.cut()


def _flaps(bench: Bench) -> None:
    for _ in range(FLAPS):
        bench.camera.cut()
        time.sleep(bench.random.uniform(0.05, 0.4))


def _resized(bench: Bench) -> None:
    bench.camera.resize()


def _clock_forward(bench: Bench) -> None:
    bench.camera.jump_s += 3600.0
    time.sleep(BREAK_S / 2)


def _clock_back(bench: Bench) -> None:
    bench.camera.jump_s -= 3600.0
    time.sleep(BREAK_S / 2)


def _rubbish(bench: Bench) -> None:
    bench.camera.rubbish = True
    time.sleep(BREAK_S / 2)
    bench.camera.rubbish = False


def _no_key_frames(bench: Bench) -> None:
    bench.camera.key_s = 30.0
    bench.camera.cut()  # who connects now has no key frame to begin with
    time.sleep(BREAK_S)
    bench.camera.key_s = 1.0


def _signal_one(number: signal.Signals, then: signal.Signals | None = None) -> Callable[[Bench], None]:
    def breaks(bench: Bench) -> None:
        children = bench.trunkline.children()
        pid = bench.random.choice(children)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if then is not None:
            time.sleep(BREAK_S)
            with suppress(ProcessLookupError):
                os.kill(pid, then)

    return breaks


def _suspended(bench: Bench) -> None:
    pids = [bench.trunkline.process.pid, *bench.trunkline.children()]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(BREAK_S)


@contextmanager
def _limited(bench: Bench, kind: int, most: Callable[[int], int]) -> Iterator[None]:
    """Lower a limit of all processes of the run, and raise it again to what it was."""
    before: dict[int, tuple[int, int]] = {}
    try:
        for pid in [bench.trunkline.process.pid, *bench.trunkline.children()]:
            with suppress(OSError):
                soft, hard = resource.prlimit(pid, kind)
                resource.prlimit(pid, kind, (most(pid), hard))
                before[pid] = (soft, hard)
        yield
    finally:
        for pid, limits in before.items():
            with suppress(OSError):
                resource.prlimit(pid, kind, limits)


def _disk_full(bench: Bench) -> None:
    with _limited(bench, resource.RLIMIT_FSIZE, lambda pid: 1):
        time.sleep(BREAK_S)


def _descriptors_gone(bench: Bench) -> None:
    with _limited(bench, resource.RLIMIT_NOFILE, descriptors):
        bench.camera.cut()  # it has to be opened again
        time.sleep(BREAK_S)


def _cores_taken(bench: Bench) -> None:
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            busy = stack.enter_context(subprocess.Popen((sys.executable, "-c", BUSY)))
            stack.callback(busy.kill)
        time.sleep(BREAK_S)


def _never_reads(bench: Bench) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.linger, reader.rcvhwm, reader.rcvbuf = 0, 1, 4096
        reader.subscribe(b"")
        reader.connect(bench.trunkline.address)
        time.sleep(BREAK_S)


def _many_subscribers(bench: Bench) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # of this process: the run has its own already
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * SUBSCRIBERS)), hard))
    with zmq.Context() as context, ExitStack() as stack:
        context.max_sockets = 2 * SUBSCRIBERS
        for _ in range(SUBSCRIBERS):
            reader = stack.enter_context(context.socket(zmq.SUB))
            reader.linger = 0
            reader.subscribe(b"")
            reader.connect(bench.trunkline.address)
        time.sleep(BREAK_S)  # and all are gone at once, in the middle of what is sent to them


def _subscriptions(bench: Bench) -> None:
    with zmq.Context() as context, context.socket(zmq.XSUB) as reader:
        reader.linger = 0
        reader.connect(bench.trunkline.address)
        for number in range(50_000):
            reader.send(b"\x01" + f"frame/{number}".encode())
        time.sleep(BREAK_S / 2)


def _peers(send: Callable[[random.Random], bytes]) -> Callable[[Bench], None]:
    def breaks(bench: Bench) -> None:
        host, _, port = bench.trunkline.address.removeprefix("tcp://").rpartition(":")
        with ExitStack() as stack:
            for _ in range(PEERS):
                with suppress(OSError):
                    peer = stack.enter_context(socket.create_connection((host, int(port)), timeout=1.0))
                    peer.sendall(send(bench.random))
            time.sleep(BREAK_S)

    return breaks


def _engine(manner: str) -> Callable[[Bench], None]:
    def breaks(bench: Bench) -> None:
        file = bench.trunkline.break_engine(manner)
        wait_until(lambda: not file.exists(), TAKEN_S)
        time.sleep(THROUGH_S)

    return breaks


def _clock_set(bench: Bench) -> None:
    for seconds in (3600.0, -3600.0, 0.0):
        bench.trunkline.set_clock(seconds)
        time.sleep(BREAK_S / 2)


def _page_clients(bench: Bench) -> None:
    with ExitStack() as stack:
        for _ in range(PAGE_CLIENTS):
            with suppress(OSError):
                stack.enter_context(bench.trunkline.page_client())
        time.sleep(BREAK_S)


def _page_killed(bench: Bench) -> None:
    for pid in bench.trunkline.page_processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


FAULTS: Final = (
    Fault("server killed for 4 s", "source", _server_killed, noticed=True),
    Fault("frozen for 4 s: packets stop, the connection stays", "source", _frozen, noticed=True),
    Fault("slow for 4 s: one picture a second", "source", _slow),
    Fault("cut in the middle of a frame", "source", _cut, noticed=True),
    Fault("ten flaps", "source", _flaps, noticed=True),
    Fault("picture size changed", "source", _resized, noticed=True),
    Fault("its clock jumps forward 1 h", "source", _clock_forward),
    Fault("its clock jumps back 1 h", "source", _clock_back),
    Fault("rubbish for 2 s", "source", _rubbish, noticed=True),
    Fault("no key frame for 4 s after a reconnect", "source", _no_key_frames, noticed=True),
    Fault("a process killed (SIGKILL)", "process", _signal_one(signal.SIGKILL), whole=True, processes=True),
    Fault("a process ended (SIGTERM)", "process", _signal_one(signal.SIGTERM), whole=True, processes=True),
    Fault(
        "a process stopped for 4 s (SIGSTOP)",
        "process",
        _signal_one(signal.SIGSTOP, signal.SIGCONT),
        whole=True,
        processes=True,
    ),
    Fault("the page's process killed (SIGKILL)", "process", _page_killed),
    Fault("the engine raises once", "process", _engine("raises")),
    Fault("the engine gives no numbers (NaN) once", "process", _engine("nan")),
    Fault("the engine gives wrong shapes once", "process", _engine("shapes")),
    Fault("the engine gives nothing once", "process", _engine("nothing")),
    Fault("the engine is 3 s late once", "process", _engine("late"), whole=True),
    Fault("the engine hangs for ever", "process", _engine("hangs"), whole=True, processes=True, silent_s=STUCK_S),
    Fault("clock set 1 h forth, 2 h back, right", "machine", _clock_set),
    Fault("all processes suspended for 4 s", "machine", _suspended, whole=True),
    Fault("disk full for 4 s (no file grows)", "machine", _disk_full),
    Fault("no descriptor left for 4 s", "machine", _descriptors_gone),
    Fault("all cores taken for 4 s", "machine", _cores_taken, whole=True),
    Fault("a subscriber that never reads", "readers", _never_reads),
    Fault("50 clients of the page that never read", "readers", _page_clients),
    Fault("500 subscribers that leave at once", "readers", _many_subscribers),
    Fault("50,000 subscriptions of one subscriber", "readers", _subscriptions),
    Fault("200 connections that say nothing", "readers", _peers(lambda _: b"")),
    Fault("200 connections that send rubbish", "readers", _peers(lambda chance: chance.randbytes(5000))),
)
