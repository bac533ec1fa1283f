"""Frames between hosts: two runs, one of which captures for the other."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pytest
import zmq
import zmq.auth

from engines.errors import ConfigError
from engines.spec import Model
from pipeline.cluster.forwarding import PictureSender, run_forwarding
from pipeline.frames.jpeg import JpegDecoder, JpegEncoder
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Health
from pipeline.runtime.summary import Summary
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sources.capture import capture
from pipeline.wire.messages import FrameMessage
from pipeline.wire.remote import PictureHeader, pack_loss, pack_picture, unpack
from tests.pipeline.made_runs import PATIENCE_S, Run, check_books, dark_then_bright, make_config
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SIZE = (160, 120)
FRAMES = 24
FPS = 12  # slow enough that none is stale, also on a busy machine
TIMEOUT_S = 1.0


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, SIZE, FPS, dark_then_bright(FRAMES, SIZE))


@pytest.fixture
def port() -> int:
    return free_port()


def server_config(model: Model, port: int, **sections: object) -> Config:
    stream = {"source": f"zmq+tcp://127.0.0.1:{port}", "timeout_s": TIMEOUT_S}
    return make_config(model, {"door": stream}, **sections)


def edge_config(source: Path | str, port: int, **values: object) -> Config:
    """Of a host that has no model."""
    stream = {"name": "door", "source": str(source), "forward": f"tcp://127.0.0.1:{port}", "timeout_s": TIMEOUT_S}
    return msgspec.convert({"streams": [stream | values], "model": {"path": "there is none"}}, Config)


class Edge:
    """A run that forwards, in a thread."""

    def __init__(self, config: Config) -> None:
        self.stop = threading.Event()
        self.addresses = ""
        self._summary: list[Summary] = []
        self._thread = threading.Thread(target=self._run, args=(config,), daemon=True)
        self._thread.start()

    def _run(self, config: Config) -> None:
        self._summary.append(run_forwarding(config, self.stop, self._started))

    def _started(self, addresses: str) -> None:
        self.addresses = addresses

    def end(self) -> Summary:
        """The summary, whose books hold."""
        self._thread.join(PATIENCE_S)
        (summary,) = self._summary
        for account in summary.streams.values():
            assert account.captured == account.published + sum(account.dropped.values())
        return summary


def content(message: FrameMessage) -> bytes:
    """All but its times."""
    fields = msgspec.to_builtins(message)
    del fields["captured_at"], fields["timings_ms"]
    return msgspec.json.encode(fields)


def ended(run: Run) -> bool:
    """Whether the sender said that its file is over."""
    reports = run.health("door")
    return bool(reports) and reports[-1].state == "down" and "end of the file" in reports[-1].cause


# Two runs


@pytest.fixture(scope="module")
def direct(model: Model, clip: Path) -> Run:
    run = Run(make_config(model, {"door": {"source": clip, "pace": "realtime"}}))
    run.end()
    return run


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_a_forwarded_file_gives_the_messages_of_a_direct_run(
    model: Model, clip: Path, port: int, direct: Run, links: str
) -> None:
    server = Run(server_config(model, port, links=links))
    server.wait(lambda run: bool(run.health("door")))  # it listens, and heard nothing yet
    edge = Edge(edge_config(clip, port, encoding="raw", pace="realtime"))
    server.wait(ended)
    summary = server.end_now()
    check_books(server, summary)
    end = {"read": "all", "cause": f"end of the file after {FRAMES} frames"}
    assert edge.end().to_json()["streams"]["door"] == {"captured": FRAMES, "published": FRAMES, "dropped": {}} | end
    assert edge.addresses == f"tcp://127.0.0.1:{port}"
    assert len(server.frames("door")) == FRAMES
    assert list(map(content, server.frames("door"))) == list(map(content, direct.frames("door")))
    assert [(report.state, report.cause) for report in server.health("door")] == [
        ("down", "nothing heard for 1 s"),
        ("up", "160x120 raw from another host"),
        ("down", f"the sender says: end of the file after {FRAMES} frames"),
        ("ended", "the run was stopped"),
    ]


def test_as_jpeg_the_boxes_are_where_they_were(model: Model, clip: Path, port: int, direct: Run) -> None:
    server = Run(server_config(model, port))
    server.wait(lambda run: bool(run.health("door")))
    edge = Edge(edge_config(clip, port, encoding="jpeg", pace="realtime"))
    server.wait(ended)
    check_books(server, server.end_now())
    edge.end()
    pairs = list(zip(direct.frames("door"), server.frames("door"), strict=True))
    assert len(pairs) == FRAMES
    for one, other in pairs:
        assert len(one.objects) == len(other.objects)
        for box, there in zip(one.objects, other.objects, strict=True):
            assert box.box == pytest.approx(there.box, abs=1.0)


def test_captured_at_is_the_edges_clock(model: Model, port: int) -> None:
    server = Run(server_config(model, port))
    server.wait(lambda run: bool(run.address))
    with pushing(port) as push:
        push(0, captured_ns=1_500_000_000_000_000_000)
        server.wait(lambda run: bool(run.frames("door")))
    check_books(server, server.end_now())
    (frame,) = server.frames("door")
    assert frame.captured_at == "2017-07-14T02:40:00.000Z"
    assert 0 <= frame.timings_ms.total < 1000 * PATIENCE_S


def test_an_edge_that_is_killed_and_started_again(model: Model, clip: Path, port: int, tmp_path: Path) -> None:
    server = Run(server_config(model, port))
    server.wait(lambda run: bool(run.address))
    first = edge_process(clip, port, tmp_path)
    server.wait(lambda run: len(run.frames("door")) > 3)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    server.wait(lambda run: run.health("door")[-1].state == "down")
    before = len(server.frames("door"))
    second = edge_process(clip, port, tmp_path)
    server.wait(lambda run: len(run.frames("door")) > before + 3)
    second.send_signal(signal.SIGTERM)
    server.wait(lambda run: run.health("door")[-1].state == "down")
    told = json.loads(second.communicate(timeout=PATIENCE_S)[0])
    assert second.returncode == 0
    account = told["streams"]["door"]
    assert account["captured"] == account["published"] + sum(account["dropped"].values()) > 0
    assert "backend" not in told, "no network ran there"
    check_books(server, server.end_now())
    reports = [(report.state, report.cause) for report in server.health("door")]
    assert reports[reports[0][0] == "down" :] == [  # that process may take its time to begin
        ("up", "160x120 jpeg from another host"),
        ("down", "nothing heard for 1 s"),
        ("up", "160x120 jpeg from another host"),
        ("down", "the sender says: the run there was stopped"),
        ("ended", "the run was stopped"),
    ]


def edge_process(clip: Path, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """``trunkline run`` on an edge, in a process of its own."""
    config = folder / "edge.toml"
    config.write_text(
        f'[[streams]]\nname = "door"\nsource = "{clip}"\npace = "realtime"\nloop = true\n'
        f'forward = "tcp://127.0.0.1:{port}"\n'
    )
    command = [sys.executable, "-m", "tools.main", "--log-level", "error", "run", str(config), "--json"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.parametrize("pace", ["fast", "camera"])
def test_an_edge_without_a_server_ends_when_it_is_told_to(
    clip: Path, port: int, pace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file waits for the server; a camera's frames are stale."""
    tried: list[int] = []
    put = PictureSender.put

    def watched(sender: PictureSender, frame: Frame) -> bool:
        tried.append(frame.seq)
        return put(sender, frame)

    monkeypatch.setattr(PictureSender, "put", watched)
    edge = Edge(edge_config(clip, port, pace=pace, loop=True))
    until(lambda: len(tried) > (pace == "camera"))
    time.sleep(0.5)  # in which a file that did not wait would have given more
    edge.stop.set()
    account = edge.end().streams["door"]
    assert account.published == 0
    if pace == "fast":
        assert (account.captured, account.dropped) == (1, {"shutdown": 1})
    else:
        assert account.captured > 1 and account.dropped.keys() == {"stale"}


def test_the_newest_wins_where_the_way_is_too_slow(make_clip: Callable[..., Path], tmp_path: Path, port: int) -> None:
    """Nobody reads for a second: no more than a few pictures, some in each host, are old when somebody does."""
    clip = make_clip(tmp_path / "large.mp4", frames=12, size=(1280, 720), fps=25)
    with zmq.Context() as context, context.socket(zmq.PULL) as reader:
        reader.rcvhwm, reader.rcvbuf = 1, 2**18
        reader.bind(f"tcp://127.0.0.1:{port}")
        edge = Edge(edge_config(clip, port, pace="camera", loop=True, encoding="raw"))
        seqs = [seq_of(reader)]
        time.sleep(1.5)
        seqs += [seq_of(reader) for _ in range(12)]
        edge.stop.set()
        account = edge.end().streams["door"]
    gaps = np.diff(seqs)
    widest = int(gaps.argmax())
    assert gaps[widest] > 10, "nothing was dropped while nobody read"
    assert widest < 5, f"{widest} old pictures had waited"
    assert account.dropped["stale"] > 10


def seq_of(reader: "zmq.Socket[bytes]") -> int:
    assert reader.poll(1000 * PATIENCE_S)
    said = unpack([part.buffer for part in reader.recv_multipart(copy=False)], "door", JpegDecoder())
    assert isinstance(said, tuple)
    return said[0].seq


# What a server makes of what arrives


class Pusher:
    """Another host that sends what it is told to."""

    def __init__(self, outlet: "zmq.Socket[bytes]") -> None:
        self._socket = outlet
        self.session = time.time_ns()

    def __call__(self, seq: int, captured_ns: int = 1, size: tuple[int, int] = SIZE) -> None:
        picture = Picture.from_rgb(np.full((size[1], size[0], 3), 40, np.uint8))
        frame = Frame("door", seq, captured_ns, 0, seq / 25, picture)
        self.parts(pack_picture(frame, self.session, JpegEncoder(90)))

    def parts(self, parts: list[Any]) -> None:
        self._socket.send_multipart(parts)


@contextmanager
def pushing(port: int) -> Iterator[Pusher]:
    with zmq.Context() as context, context.socket(zmq.PUSH) as outlet:
        outlet.linger = 0
        outlet.connect(f"tcp://127.0.0.1:{port}")
        yield Pusher(outlet)


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_frames_that_did_not_arrive_are_lost_in_the_books(model: Model, port: int, links: str) -> None:
    server = Run(server_config(model, port, links=links))
    server.wait(lambda run: bool(run.address))
    with pushing(port) as push:
        for count, seq in enumerate((100, 101, 105, 106, 120), start=1):
            push(seq)
            server.wait(lambda run, count=count: len(run.frames("door")) == count)  # type: ignore[misc]
    summary = server.end_now()
    check_books(server, summary)
    account = summary.streams["door"]
    assert (account.captured, account.published, account.dropped) == (21, 5, {"lost": 16})
    assert [frame.seq for frame in server.frames("door")] == [0, 1, 5, 6, 20]


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_what_is_no_message_is_passed_over(model: Model, port: int, links: str) -> None:
    server = Run(server_config(model, port, links=links))
    server.wait(lambda run: bool(run.address))
    with pushing(port) as push:
        for seq in range(4):
            push.parts([b"hello"])
            push.parts([b"\x80", b"", b""])
            push.parts([b""] * 1000)
            push(seq)
            server.wait(lambda run, seq=seq: len(run.frames("door")) == seq + 1)  # type: ignore[misc]
    check_books(server, server.end_now())


class Heard:
    """What capture makes of a port, read in a thread."""

    def __init__(self, port: int, **values: Any) -> None:
        self.stop = threading.Event()
        self.frames: list[Frame] = []
        self.reports: list[Health] = []
        self._settings = StreamSettings(name="door", source=f"zmq+tcp://127.0.0.1:{port}", **values)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        self.frames.extend(capture(self._settings, stop=self.stop, health=self.reports.append))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def wait_for(self, *wanted: tuple[str, str]) -> None:
        end = time.monotonic() + PATIENCE_S
        while (told := [(report.state, report.cause) for report in self.reports]) != list(wanted):
            assert time.monotonic() < end, told
            time.sleep(0.01)


UP = ("up", "160x120 jpeg from another host")


def test_what_happens_to_a_stream_is_told_with_its_cause(port: int) -> None:
    heard: list[tuple[str, str]] = []
    with Heard(port, timeout_s=0.3, reconnect_min_s=0.01) as stream, pushing(port) as push:
        heard.append(("down", "nothing heard for 0.3 s"))
        stream.wait_for(*heard)
        push(0)
        heard += [UP, ("down", "nothing heard for 0.3 s")]
        stream.wait_for(*heard)
        push(1)
        push.parts(pack_loss("door", push.session, "no \nanswer\x1b[2J"))
        # No line breaks and no commands to a terminal come from other hosts.
        heard += [UP, ("down", "the sender says: no  answer [2J")]
        stream.wait_for(*heard)
        time.sleep(0.5)  # that nothing is heard after that either is no news
        push(2)
        push(3, size=(64, 48))
        heard += [
            UP,
            ("down", "the picture size changed from 160x120 to 64x48"),
            ("up", "64x48 jpeg from another host"),
            ("down", "nothing heard for 0.3 s"),
        ]
        stream.wait_for(*heard)
        refused = "all that is heard is refused: it has 1 parts, but must have 2"
        header = pack_picture(Frame("door", 9, 1, 0, 9.0, Picture.from_rgb(np.zeros((8, 8, 3), np.uint8))), 1, None)[0]
        assert isinstance(header, bytes)
        jpeg = msgspec.msgpack.encode(msgspec.structs.replace(decoded(header), encoding="jpeg"))
        push.parts([jpeg])
        heard.append(("down", refused))
        stream.wait_for(*heard)
    assert [frame.seq for frame in stream.frames] == [0, 1, 2, 3]


def decoded(header: bytes) -> PictureHeader:
    return msgspec.msgpack.decode(header, type=PictureHeader)


def test_a_port_that_is_taken_is_a_loss_like_others(port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as other:
        other.bind(f"tcp://127.0.0.1:{port}")
        with Heard(port, timeout_s=0.3, reconnect_min_s=0.01, reconnect_max_s=0.02) as stream:
            taken = ("down", f"cannot listen: Address already in use (addr='tcp://127.0.0.1:{port}')")
            stream.wait_for(taken)
            other.unbind(f"tcp://127.0.0.1:{port}")
            stream.wait_for(taken, ("down", "nothing heard for 0.3 s"))


# Keys


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (listed := tmp_path / "listed").mkdir()
    for folder, name in ((tmp_path, "server"), (tmp_path, "stranger"), (listed, "edge")):
        zmq.auth.create_certificates(folder, name)
    return tmp_path


SECRET, LISTED = {"curve_secret_file": "server.key_secret"}, {"clients": "listed"}
KEY, OWN = {"server_key": "server.key"}, {"client_key": "listed/edge.key_secret"}


@pytest.mark.parametrize(
    ("listener", "sender", "arrives"),
    [
        pytest.param(SECRET, KEY, True, id="the server's key"),
        pytest.param(SECRET, {"server_key": "stranger.key"}, False, id="another key"),
        pytest.param(SECRET, {}, False, id="a sender without a key"),
        pytest.param({}, KEY, False, id="a server without a key"),
        pytest.param(SECRET | LISTED, KEY | OWN, True, id="a sender on the list"),
        pytest.param(SECRET | LISTED, KEY, False, id="a sender that is not on the list"),
    ],
)
def test_who_has_the_key_and_is_on_the_list_may_send(
    keys: Path, port: int, listener: dict[str, str], sender: dict[str, str], arrives: bool
) -> None:
    values, to_server = ({key: str(keys / name) for key, name in each.items()} for each in (listener, sender))
    settings = StreamSettings(name="door", source="0", forward=f"tcp://127.0.0.1:{port}", **to_server)
    picture = Picture.from_rgb(np.zeros((8, 8, 3), np.uint8))
    with Heard(port, timeout_s=0.8, **values) as stream, PictureSender(settings, threading.Event()) as sending:
        for seq in range(30):
            sending.put(Frame("door", seq, 1, 0, seq / 25, picture))
            time.sleep(0.02)
        wanted = [("up", "8x8 jpeg from another host")] if arrives else []
        stream.wait_for(*wanted, ("down", "nothing heard for 0.8 s"))
    assert bool(stream.frames) == arrives


@pytest.mark.parametrize("file", ["none.key_secret", "server.key"])
def test_a_secret_that_cannot_be_used_is_refused_before_anything_runs(model: Model, keys: Path, file: str) -> None:
    stream = {"source": "zmq+tcp://0.0.0.0:5570", "curve_secret_file": str(keys / file), "clients": str(keys)}
    with pytest.raises(ConfigError, match=r"stream 'door': curve_secret_file is '.*', which cannot be used: "):
        Run(make_config(model, {"door": stream})).end()


def test_a_server_key_that_cannot_be_used_is_refused_before_anything_runs(clip: Path, tmp_path: Path) -> None:
    config = edge_config(clip, 5570, server_key=str(tmp_path / "none.key"))
    with pytest.raises(ConfigError, match=r"stream 'door': forward 'tcp://127.0.0.1:5570', server_key '.*' cannot be"):
        run_forwarding(config, threading.Event(), lambda addresses: None)
