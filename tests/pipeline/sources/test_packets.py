"""Packets of sources: as they came, and each with the capture time of its frame."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from engines.arrays import Pixels
from pipeline.frames.types import Frame
from pipeline.settings.schema import PacketSettings, StreamSettings
from pipeline.sources.capture import capture
from pipeline.sources.packets import PacketTarget
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packet_sockets import PacketHub, PacketReader
from pipeline.wire.packets import PacketMessage
from tests.integration.made_server import Server, gstreamer_works
from tests.pipeline.made_clips import ONE, write_clip

PATIENCE_S = 30.0
FRAMES = 75
QUIET = {"libx265": {"x265-params": "log-level=none"}}
BITS = 8
BLOCK = 16  # pixels

pytestmark = pytest.mark.integration


def numbered(index: int, size: tuple[int, int]) -> Pixels:
    """A grey picture with its number in a row of black and white blocks."""
    pixels = np.full((size[1], size[0], 3), 128, np.uint8)
    for bit in range(BITS):
        pixels[:BLOCK, BLOCK * bit : BLOCK * (bit + 1)] = 255 * (index >> bit & 1)
    return pixels


def number_in(luma: np.ndarray) -> int:
    blocks = luma[:BLOCK, : BLOCK * BITS].reshape(BLOCK, BITS, BLOCK).mean((0, 2))
    return sum(int(value > 128) << bit for bit, value in enumerate(blocks))


class Watched:
    """A capture in a thread, and all packets that come of it; its first frame waits until somebody reads."""

    def __init__(self, settings: StreamSettings, packets: PacketSettings | None = None) -> None:
        self.frames: list[Frame] = []
        self.packets: list[PacketMessage] = []
        self.lost = 0
        self._stop = threading.Event()
        self._settings, self._given = settings, packets or PacketSettings()

    def run(self, enough: int | None = None) -> "Watched":
        """Until the source ends, or so many packets came."""
        with PacketHub(self._given) as hub, PacketReader(hub.address, room=10_000) as reader:
            thread = threading.Thread(target=self._capture, args=(hub.inner,))
            thread.start()
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end:
                ended = not thread.is_alive()  # asked before, since its last packets come as it ends
                packet = reader.read(0.2)
                if packet is not None:
                    self.packets.append(packet)
                if enough is not None and len(self.packets) >= enough:
                    break
                if packet is None and ended:
                    break
            self._stop.set()
            thread.join()
            self.lost = sum(reader.lost.values())
        return self

    def _capture(self, address: str) -> None:
        target = PacketTarget(address, self._given)
        for frame in capture(self._settings, stop=self._stop, health=lambda _: None, packets=target):
            if not self.frames:
                time.sleep(0.3)  # for the subscription to arrive
            self.frames.append(frame)

    def mp4(self) -> bytes:
        fragmenter = Fragmenter(self.packets[0])
        self.base_ns = 0
        made = b"".join(map(fragmenter.fragment, self.packets)) + fragmenter.rest()
        self.base_ns = fragmenter.base_ns
        return fragmenter.init + made


def packets_in(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "libx264", {"bf": "2"}),
        ("clip.ts", "libx264", {"bf": "2"}),
        ("clip.mkv", "libx264", {"bf": "0"}),
        ("clip.avi", "libx264", {"bf": "2"}),  # its time stamps do not tell in which order pictures are shown
        ("clip.h264", "libx264", {"bf": "2"}),  # without time stamps
        ("clip.mp4", "libx265", {}),
        ("clip.ts", "libx265", {}),
    ],
)
def test_each_packet_comes_as_it_is_with_the_times_of_its_frame(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    options = {"g": "25"} | options | QUIET.get(codec, {})
    path = write_clip(tmp_path / name, FRAMES, (128, 64), codec=codec, options=options)
    watched = Watched(StreamSettings(name="door", source=str(path))).run()
    assert [packet.data for packet in watched.packets] == packets_in(path)
    assert [packet.number for packet in watched.packets] == list(range(FRAMES))
    assert watched.packets[0].key and watched.packets[0].size == (128, 64)
    told = sorted((packet.captured_ns, packet.time_s) for packet in watched.packets)
    assert told == [(frame.captured_ns, frame.time_s) for frame in watched.frames]
    assert watched.lost == 0


def test_the_number_drawn_into_a_picture_comes_out_at_the_capture_time_told_of_its_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", FRAMES, (128, 64), draw=numbered, options={"g": "25", "bf": "2"})
    watched = Watched(StreamSettings(name="door", source=str(path), pace="camera")).run()
    data = watched.mp4()
    with av.open(io.BytesIO(data)) as container:
        shown = {number_in(frame.to_ndarray(format="gray")): frame.time for frame in container.decode(video=0)}
    assert len(shown) == FRAMES
    for frame in watched.frames:
        number, media_s = number_in(frame.picture.planes[0]), shown[frame.seq]
        assert number == frame.seq and media_s is not None
        assert abs(watched.base_ns + media_s * 1e9 - frame.captured_ns) < 2e6  # of 40 ms that a frame lasts


@pytest.mark.parametrize(("mode", "fields"), [("weave", 1), ("bob", 2)])
def test_packets_of_interlaced_video_have_the_times_of_their_first_field(
    tmp_path: Path, mode: str, fields: int
) -> None:
    options = {"g": "25", "bf": "2", "flags": "+ildct+ilme", "x264-params": "tff=1"}
    path = write_clip(tmp_path / "clip.mp4", 50, (128, 64), options=options)
    settings = msgspec.convert({"name": "door", "source": str(path), "deinterlace": mode}, StreamSettings)
    watched = Watched(settings).run()
    assert len(watched.frames) == 50 * fields
    told = sorted((packet.captured_ns, packet.time_s) for packet in watched.packets)
    assert told == [(frame.captured_ns, frame.time_s) for frame in watched.frames[::fields]]


@pytest.mark.parametrize(
    ("turns", "degrees"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 90), ((-1, 0, 0, -1), 180), ((0, -1, 1, 0), 270)]
)
def test_a_clip_of_a_turned_source_is_shown_as_the_frames_are(
    tmp_path: Path, turns: tuple[int, int, int, int], degrees: int
) -> None:
    a, b, c, d = (number * ONE for number in turns)
    path = write_clip(tmp_path / "clip.mp4", 10, (128, 64), matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    watched = Watched(StreamSettings(name="door", source=str(path))).run()
    assert {packet.rotation for packet in watched.packets} == {degrees}
    with av.open(io.BytesIO(watched.mp4())) as made, av.open(str(path)) as original:
        assert next(made.decode(video=0)).rotation == next(original.decode(video=0)).rotation


def test_packets_of_a_file_that_begins_again_go_on(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 20, (128, 64), options={"g": "10", "bf": "2"})
    watched = Watched(StreamSettings(name="door", source=str(path), loop=True)).run(enough=70)
    packets = watched.packets[:60]
    assert [packet.data for packet in packets] == packets_in(path) * 3
    assert [packet.number for packet in packets] == list(range(60))
    told = sorted((packet.captured_ns, packet.time_s) for packet in packets)
    assert told == [(frame.captured_ns, frame.time_s) for frame in watched.frames[:60]]


def test_who_begins_to_read_gets_what_there_was_since_the_last_key_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 60, (128, 64), options={"g": "60", "bf": "0", "sc_threshold": "0"})
    settings = StreamSettings(name="door", source=str(path), pace="realtime")
    with PacketHub(PacketSettings()) as hub:
        target = PacketTarget(hub.inner, PacketSettings())
        frames = capture(settings, stop=threading.Event(), health=lambda _: None, packets=target)
        for _ in range(30):
            next(frames)
        with PacketReader(hub.address, ("door",)) as late:
            time.sleep(0.3)
            for _ in frames:
                pass
            packets = iter(lambda: late.read(0.5), None)
            assert [packet.number for packet in packets if packet is not None] == list(range(60))


def test_pictures_go_in_place_of_packets_that_no_browser_plays_at_their_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 50, (128, 64), codec="mpeg4")
    given = PacketSettings(jpeg_rate_hz=5.0)
    watched = Watched(StreamSettings(name="door", source=str(path), pace="realtime"), given).run()
    captured = {frame.captured_ns for frame in watched.frames}
    assert 6 <= len(watched.packets) <= 11  # of two seconds
    for packet in watched.packets:
        assert packet.codec == "mjpeg" and packet.key and packet.captured_ns in captured
        with av.open(io.BytesIO(packet.data), format="mjpeg") as container:
            (frame,) = container.decode(video=0)
        assert (frame.width, frame.height) == packet.size == (128, 64)


def test_nothing_is_encoded_while_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", 25, (128, 64), codec="mpeg4")
    encoded: list[object] = []
    monkeypatch.setattr("pipeline.sources.packets.JpegEncoder.encode", lambda self, planes: encoded.append(planes))
    with PacketHub(PacketSettings()) as hub:
        settings = StreamSettings(name="door", source=str(path), pace="realtime")
        target = PacketTarget(hub.inner, PacketSettings(jpeg_rate_hz=60.0))
        frames = list(capture(settings, stop=threading.Event(), health=lambda _: None, packets=target))
    assert len(frames) == 25 and encoded == []


def test_damaged_packets_hold_up_none_and_the_others_keep_their_times(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", FRAMES, (128, 64), options={"g": "25", "bf": "2"}, broken=(30, 31))
    watched = Watched(StreamSettings(name="door", source=str(path))).run()
    assert [packet.number for packet in watched.packets] == list(range(FRAMES))
    told = {(packet.captured_ns, packet.time_s) for packet in watched.packets}
    assert len(watched.frames) < FRAMES
    assert {(frame.captured_ns, frame.time_s) for frame in watched.frames} <= told


@pytest.fixture
def camera(make_clip: Callable[..., Path], tmp_path: Path) -> Iterator[Server]:
    if not gstreamer_works():
        pytest.skip("needs GStreamer's RTSP server and its Python bindings; see rtsp_server.py")
    server = Server(make_clip(tmp_path / "clip.mp4", frames=50))
    yield server
    server.kill()


def test_packets_of_a_camera_come_with_the_times_of_its_frames_and_play(camera: Server) -> None:
    watched = Watched(StreamSettings(name="door", source=camera.address)).run(enough=60)
    assert watched.packets[0].key
    captured = {frame.captured_ns: frame.time_s for frame in watched.frames}
    assert all(captured[packet.captured_ns] == packet.time_s for packet in watched.packets)
    with av.open(io.BytesIO(watched.mp4())) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(times) == len(watched.packets) >= 60
    first = watched.packets[0]
    for packet, media_s in zip(watched.packets, times, strict=True):
        assert media_s is not None and abs(media_s - (packet.time_s - first.time_s)) < 1e-3


def test_a_newcomer_does_not_make_others_lose_packets_where_key_frames_are_very_rare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.packets.MAX_AGAIN", 20)
    path = write_clip(tmp_path / "clip.mp4", 60, (128, 64), options={"g": "60", "bf": "0", "sc_threshold": "0"})
    with PacketHub(PacketSettings()) as hub:
        target = PacketTarget(hub.inner, PacketSettings())
        settings = StreamSettings(name="door", source=str(path), pace="realtime")
        frames = capture(settings, stop=threading.Event(), health=lambda _: None, packets=target)
        for _ in range(30):
            next(frames)
        with PacketReader(hub.address, ("door",)) as late:
            time.sleep(0.3)
            for _ in frames:
                pass
            first = late.read(PATIENCE_S)
    assert first is not None and first.number >= 30
