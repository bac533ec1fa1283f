"""Pictures in place of packets that a browser does not play."""

import asyncio
import threading
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from engines.arrays import Pixels
from engines.priority import NICE
from pipeline.service.web.pictures import PictureMaker
from pipeline.service.web.video import _pictures
from pipeline.wire.packets import PacketMessage
from tests.pipeline.made_clips import drawn, write_clip
from tests.pipeline.made_packets import packets_of
from tests.pipeline.service.web.made_site import made_site
from tests.pipeline.service.web.test_video import MadeHub

SIZE = (64, 48)
FRAMES = 20
NEAR = 14  # levels, after encoding twice


@pytest.fixture(scope="module")
def hevc(tmp_path_factory: pytest.TempPathFactory) -> list[PacketMessage]:
    options = {"x265-params": "log-level=none:keyint=10:min-keyint=10:bframes=2:pools=1"}
    path = write_clip(tmp_path_factory.mktemp("hevc") / "clip.mp4", FRAMES, SIZE, codec="libx265", options=options)
    return packets_of(path, 10**18)


def pixels_of(jpeg: bytes) -> Pixels:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def made(packets: list[PacketMessage], rate_hz: float = 1e6, step_s: float = 0.04) -> list[tuple[bytes, int]]:
    maker = PictureMaker(rate_hz)
    return [each for index, packet in enumerate(packets) for each in maker.take(packet, index * step_s)]


def test_hevc_comes_as_pictures_in_its_colours_and_at_its_times(hevc: list[PacketMessage]) -> None:
    pictures = made(hevc)
    times = sorted(packet.captured_ns for packet in hevc)
    assert [captured_ns for _, captured_ns in pictures] == times[: len(pictures)]
    assert len(pictures) >= FRAMES - 4  # the last wait for those behind them
    for index, (jpeg, _) in enumerate(pictures[::5]):
        differs = np.abs(pixels_of(jpeg).astype(int) - drawn(5 * index, SIZE)).max(axis=2) > NEAR
        assert differs.mean() < 0.15


def test_they_come_no_more_often_than_asked(hevc: list[PacketMessage]) -> None:
    assert len(made(hevc, rate_hz=5.0)) == 4  # in 0.8 s


def test_they_are_shown_as_they_are_displayed(hevc: list[PacketMessage]) -> None:
    turned = [msgspec.structs.replace(packet, rotation=90, aspect=(2, 1)) for packet in hevc]
    picture = pixels_of(made(turned)[0][0])
    assert picture.shape == (128, 48, 3)
    wanted = np.rot90(drawn(0, (128, 48)), -1)
    assert (np.abs(picture.astype(int) - wanted).max(axis=2) > NEAR).mean() < 0.15


def test_after_a_loss_they_go_on_with_the_next_key_frame(hevc: list[PacketMessage]) -> None:
    key = next(index for index, packet in enumerate(hevc) if packet.key and index)
    without_two = [packet for packet in hevc if packet.number not in (0, 3)]
    first_ns = made(without_two)[0][1]
    assert first_ns == hevc[key].captured_ns
    damaged = [msgspec.structs.replace(packet, data=b"\0" * 9) if packet.number == 2 else packet for packet in hevc]
    assert made(damaged)


def test_the_route_makes_them_with_low_priority(
    hevc: list[PacketMessage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"ipc://{tmp_path}/p"
    site: Any = made_site(tmp_path, packets=address)
    hub = MadeHub(address)
    priorities = []
    take = PictureMaker.take

    def watched(self: PictureMaker, packet: PacketMessage, now_s: float) -> list[tuple[bytes, int]]:
        stat = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        priorities.append(int(stat.read_text().rpartition(")")[2].split()[16]))
        return take(self, packet, now_s)

    monkeypatch.setattr(PictureMaker, "take", watched)

    def send() -> None:
        hub.await_reader()
        for packet in hevc:
            hub.send(packet)
            time.sleep(0.02)

    async def first_two() -> list[bytes]:
        parts = []
        async with aclosing(_pictures(None, site, "door", address, 30.0)) as coming:  # type: ignore[arg-type]
            async for part in coming:
                parts.append(part)
                if len(parts) == 2:
                    break
        return parts

    thread = threading.Thread(target=send)
    thread.start()
    try:
        parts = asyncio.run(asyncio.wait_for(first_two(), 30))
    finally:
        thread.join()
        hub.close()
    assert all(b"Content-Type: image/jpeg\r\n" in part and b"X-Captured-At: " in part for part in parts)
    base = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[16])
    assert set(priorities) == {min(base + NICE, 19)}
