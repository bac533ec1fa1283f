"""Video through the page's server: a run's packets as they came, at the times at which they were captured."""

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest

from pipeline.service.web.site import Site
from pipeline.service.web.video import packets_of as packets_from
from pipeline.service.web.video import parts_of, pictures_of, video_of
from pipeline.settings.schema import PacketSettings
from pipeline.wire.packet_sockets import PacketHub, PacketSender
from pipeline.wire.packets import PacketMessage
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_packets import packets_of
from tests.pipeline.service.web.made_site import client_of, health, made_site

FRAMES = 12
CAPTURED_NS = 1_795_425_247_120_000_000
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> list[PacketMessage]:
    clip = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, options={"bf": "0", "g": "4"})
    return packets_of(clip, CAPTURED_NS)


def joined(parts: list[str | bytes]) -> bytes:
    return b"".join(part for part in parts if isinstance(part, bytes))


def test_a_viewer_gets_a_head_and_video_that_plays_at_the_times_of_capture(packets: list[PacketMessage]) -> None:
    head, *rest = parts_of(iter(packets))
    told = json.loads(head)
    assert told["codec"].startswith('video/mp4; codecs="avc1.')
    with av.open(io.BytesIO(joined(rest))) as container:
        times_ns = [
            told["base_ns"] + round(frame.time * 1e9) for frame in container.decode(video=0) if frame.time is not None
        ]
    expected = [packet.captured_ns for packet in packets[:-1]]  # the last lasts until the next one comes
    assert times_ns == pytest.approx(expected, abs=1e6)


def test_another_format_ends_it_so_that_the_viewer_begins_again(packets: list[PacketMessage]) -> None:
    other = msgspec.structs.replace(packets[4], size=(32, 24))
    assert len(list(parts_of(iter([*packets[:4], other, *packets[5:]])))) == len(list(parts_of(iter(packets[:4]))))


def test_of_pictures_the_head_alone_is_told(packets: list[PacketMessage]) -> None:
    picture = msgspec.structs.replace(packets[0], codec="mjpeg")
    assert [json.loads(part)["codec"] for part in parts_of(iter([picture, picture]))] == ["image/jpeg"]


def test_pictures_are_decoded_where_they_have_to_be_no_more_of_them_than_asked_for(
    packets: list[PacketMessage],
) -> None:
    shown = list(pictures_of(iter(packets), 5.0))
    steps_s = np.diff([captured_ns for captured_ns, _ in shown]) / 1e9
    assert len(shown) == 3 and steps_s.min() >= 0.2
    pixels = cv2.imdecode(np.frombuffer(shown[0][1], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert pixels.shape == (48, 64, 3) and pixels[12, 12, 0] > 180


@pytest.mark.parametrize(("rotation", "shape"), [(90, (64, 48)), (180, (48, 64))])
def test_pictures_are_as_displayed(packets: list[PacketMessage], rotation: int, shape: tuple[int, int]) -> None:
    turned = (msgspec.structs.replace(packet, rotation=rotation) for packet in packets)
    _, jpeg = next(pictures_of(turned, 30.0))
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert pixels.shape[:2] == shape
    assert pixels[12, -12, 0] > 180 if rotation == 90 else pixels[-12, -12, 0] > 180, "the red quarter has moved along"


@pytest.fixture
def hub() -> Iterator[PacketHub]:
    with PacketHub(PacketSettings()) as hub:
        yield hub


class Camera:
    """Sends packets, again and again, to whoever looks."""

    def __init__(self, hub: PacketHub, packets: list[PacketMessage]) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(hub.inner, packets), daemon=True)
        self._thread.start()

    def _run(self, address: str, packets: list[PacketMessage]) -> None:
        sender = PacketSender(address, "door")
        session = 1
        while not self._over.wait(0.05):
            sender.look()
            session += 1
            for packet in packets if sender.wanted else ():
                sender.send(msgspec.structs.replace(packet, session=session))
        sender.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S)


def test_after_a_loss_nothing_is_shown_before_the_next_key_frame(hub: PacketHub, packets: list[PacketMessage]) -> None:
    holey = [packet for packet in packets if packet.number not in (0, 5)]
    camera, stop = Camera(hub, holey), threading.Event()
    shown = packets_from(hub.address, "door", stop)
    assert [next(shown).number for _ in range(5)] == [4, 8, 9, 10, 11]
    stop.set()
    camera.close()


@pytest.fixture
def site(tmp_path: Path, hub: PacketHub) -> Site:
    site = made_site(tmp_path)
    site.places = replace(site.places, packets=hub.address)
    return site


def test_the_server_sends_video_and_pictures(site: Site, hub: PacketHub, packets: list[PacketMessage]) -> None:
    camera = Camera(hub, packets)
    with client_of(site) as client:
        with client.websocket_connect("/api/video/door") as socket:
            assert json.loads(socket.receive_text())["base_ns"] == CAPTURED_NS
            assert b"ftyp" in socket.receive_bytes()[:12]
        refused = client.get("/api/mjpeg/gone")
        assert refused.status_code == 404 and "no video of the stream 'gone'" in refused.json()["error"]
    camera.close()


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("960x540 h264", "mse"),
        ("320x240 mpeg4", "mjpeg"),
        ("6x4 camera MJPG", "mjpeg"),
        ("", "mse"),
        ("no route: 10x", "mse"),
    ],
)
def test_how_a_stream_can_be_seen(site: Site, cause: str, kind: str) -> None:
    site.hub.hear(health("up", cause))
    assert video_of(site, "door") == kind


def test_without_packets_there_is_no_video(tmp_path: Path) -> None:
    assert video_of(made_site(tmp_path), "door") == "none"
