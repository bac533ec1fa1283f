"""Live video: packets of a made hub, as a browser is sent them."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from litestar.exceptions import WebSocketDisconnect

from pipeline.service.web.site import Site
from pipeline.service.web.video_kinds import kind_of
from pipeline.wire.packets import PacketMessage, pack_packet
from tests.pipeline.made_packets import packets_of
from tests.pipeline.service.web.made_site import client_of, made_site


class MadeHub:
    """Sends the packets of a clip again and again to whoever subscribes."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger = 0
        self._socket.bind(address)

    def await_reader(self) -> None:
        assert self._socket.poll(20_000), "nobody subscribed"
        self._socket.recv()

    def send(self, *packets: PacketMessage) -> None:
        for packet in packets:
            self._socket.send_multipart(pack_packet(packet))

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/p"


@pytest.fixture
def hub(address: str) -> Iterator[MadeHub]:
    hub = MadeHub(address)
    yield hub
    hub.close()


@pytest.fixture
def site(tmp_path: Path, address: str) -> Site:
    return made_site(tmp_path, packets=address)  # type: ignore[arg-type]


@pytest.fixture
def packets(make_clip: Callable[..., Path], tmp_path: Path) -> list[PacketMessage]:
    return packets_of(make_clip(tmp_path / "clip.mp4", frames=15, size=(160, 120)), 10**18)


def jpeg(number: int) -> PacketMessage:
    return PacketMessage(
        stream="door",
        session=1,
        number=number,
        codec="mjpeg",
        extradata=b"",
        size=(160, 120),
        time_base=(1, 1000),
        pts=None,
        dts=None,
        key=True,
        captured_ns=10**18,
        time_s=0.0,
        data=b"jpeg %d" % number,
    )


def test_a_browser_is_told_the_codec_and_time_then_sent_mp4(
    site: Site, hub: MadeHub, packets: list[PacketMessage]
) -> None:
    with client_of(site) as client, client.websocket_connect("/api/video/door") as socket:
        hub.await_reader()
        hub.send(*packets)
        told = json.loads(socket.receive_text(timeout=20))
        assert told["codec"].startswith('video/mp4; codecs="avc1.') and told["base_ns"] == 10**18
        assert socket.receive_bytes(timeout=20)[4:8] == b"ftyp"
        assert [socket.receive_bytes(timeout=20)[4:8] for _ in packets[1:]] == [b"moof"] * (len(packets) - 1)


def test_when_the_capture_begins_anew_the_page_connects_again(
    site: Site, hub: MadeHub, packets: list[PacketMessage]
) -> None:
    with client_of(site) as client, client.websocket_connect("/api/video/door") as socket:
        hub.await_reader()
        hub.send(packets[0], msgspec.structs.replace(packets[0], session=2))
        socket.receive_text(timeout=20)
        socket.receive_bytes(timeout=20)
        with pytest.raises(WebSocketDisconnect):
            socket.receive_bytes(timeout=20)


def test_pictures_are_no_video_and_come_as_pictures(site: Site, hub: MadeHub) -> None:
    site.kinds._known["door"] = kind_of(jpeg(0))
    site.kinds._looked_s["door"] = time.monotonic()
    with client_of(site) as client:
        with client.websocket_connect("/api/video/door") as socket:
            hub.await_reader()
            hub.send(jpeg(0))
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_bytes(timeout=20)
        assert closed.value.code == 4404
        assert client.get("/api/streams").json()[0]["video"] == "mjpeg"


def test_streams_tell_how_their_video_can_be_had(site: Site, hub: MadeHub, packets: list[PacketMessage]) -> None:
    with client_of(site) as client:
        assert client.get("/api/streams").json()[0]["video"] == "none", "nobody knows yet"
        hub.await_reader()
        hub.send(packets[0])
        until_s = time.monotonic() + 20
        while (door := client.get("/api/streams").json()[0])["video"] == "none":
            assert time.monotonic() < until_s
            time.sleep(0.05)
    assert door["video"] == "mse" and door["codec"].startswith("avc1.")


def test_without_packets_there_is_no_video(tmp_path: Path) -> None:
    with client_of(made_site(tmp_path)) as client:
        assert client.get("/api/mjpeg/door").status_code == 404
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/api/video/door"):
            pass
    assert refused.value.code == 4404
