"""Sources into frames: files, addresses that come and go, cameras."""

import itertools
import random
import re
import socket
import struct
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import av
import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.arrays import Pixels
from engines.errors import SourceError
from pipeline.frames.picture import Matrix
from pipeline.frames.types import Frame, Health
from pipeline.settings.schema import CameraSettings, StreamSettings
from pipeline.sources.capture import capture, check_source, waits_for_nobody
from pipeline.sources.condition import Condition
from pipeline.sources.file import OUT_OF_STEP_S
from pipeline.sources.kind import is_live
from pipeline.sources.live import Backoff

MakeClip = Callable[..., Path]
PATIENCE_S = 10.0  # no test waits this long unless it fails


class Captured:
    """One run of capture in this thread, with all that it told."""

    def __init__(self, source: str | Path, first_seq: int = 0, **settings: object) -> None:
        values = {"name": "door", "source": str(source), "reconnect_min_s": 0.01, "reconnect_max_s": 0.02}
        self.stop = threading.Event()
        self.reports: list[Health] = []
        self.frames: Iterator[Frame] = capture(
            msgspec.convert(values | settings, StreamSettings),
            stop=self.stop,
            health=self._hear,
            first_seq=first_seq,
        )
        self.stop_after_reports: int | None = None

    def _hear(self, report: Health) -> None:
        self.reports.append(report)
        if len(self.reports) == self.stop_after_reports:
            self.stop.set()

    def until_reports(self, count: int) -> list[Frame]:
        """Frames until ``count`` health reports were heard."""
        self.stop_after_reports = count
        alarm = threading.Timer(PATIENCE_S, self.stop.set)
        alarm.start()
        try:
            return list(self.frames)
        finally:
            alarm.cancel()

    @property
    def health(self) -> list[tuple[str, str]]:
        return [(report.state, report.cause) for report in self.reports]


@contextmanager
def tcp_server(*sessions: Sequence[bytes], pause_s: float = 0.0, hold: bool = False) -> Iterator[str]:
    """Sends each client the chunks of one session after the other; with ``hold`` the last stays open but silent."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def serve() -> None:
        waiting = list(sessions)
        while waiting and not over.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            with client:
                try:
                    for chunk in waiting.pop(0):
                        client.sendall(chunk)
                        over.wait(pause_s)
                except OSError:
                    continue
                if hold and not waiting:
                    over.wait(PATIENCE_S)
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("capture") / "clip.mp4", frames=20, size=(160, 120), fps=20)


@pytest.fixture(scope="module")
def transport_stream(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("capture") / "clip.ts", frames=20, size=(160, 120)).read_bytes()


@pytest.fixture(scope="module")
def larger_transport_stream(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("capture") / "larger.ts", frames=20, size=(192, 144)).read_bytes()


# Files


def test_file_gives_every_frame_once_and_ends(clip: Path) -> None:
    captured = Captured(clip)
    frames = list(captured.frames)
    assert [frame.seq for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 20 for index in range(20)])
    assert {(frame.stream, frame.picture.width, frame.picture.height) for frame in frames} == {("door", 160, 120)}
    assert captured.health == [("up", "160x120 h264"), ("ended", "end of the file after 20 frames")]


def test_frames_say_when_they_came(clip: Path) -> None:
    before, clock_before = time.time_ns(), time.monotonic_ns()
    frames = list(Captured(clip).frames)
    assert all(before <= frame.captured_ns <= time.time_ns() for frame in frames)
    assert all(clock_before <= frame.clock_ns <= time.monotonic_ns() for frame in frames)


def test_pictures_stay_as_they_were_after_the_decoder_is_gone(clip: Path) -> None:
    kept = list(Captured(clip).frames)
    with av.open(str(clip)) as container:
        for frame, expected in zip(kept, container.decode(video=0), strict=True):
            y, u, v = frame.picture.planes
            planes = expected.to_ndarray()  # (H * 3 / 2, W): y above, then u and v
            assert np.array_equal(y, planes[:120])
            assert np.array_equal(np.concatenate([u.ravel(), v.ravel()]), planes[120:].ravel())
            assert not any(plane.flags.writeable for plane in (y, u, v))


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_the_drawn_ones(make_clip: MakeClip, tmp_path: Path, matrix: Matrix, full_range: bool) -> None:
    colour = np.array([200, 40, 60], np.uint8)
    drawn = np.full((64, 64, 3), colour, np.uint8)
    path = make_clip(
        tmp_path / "red.mp4", frames=2, size=(64, 64), draw=lambda _: drawn, matrix=matrix, full_range=full_range
    )
    frames = list(Captured(path).frames)
    assert np.abs(frames[0].picture.rgb().astype(int) - colour).max() <= 5


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuvj422p", "bgr0", "gray", "yuv420p10le"])
def test_other_pixel_formats_become_planes_of_the_same_colours(tmp_path: Path, pixel_format: str) -> None:
    colour = (120, 120, 120) if pixel_format == "gray" else (200, 40, 60)
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if pixel_format != "yuvj422p" else "mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), "rgb24")
        container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode())
    (captured,) = Captured(path).frames
    assert len(captured.picture.planes) == 3
    assert np.abs(captured.picture.rgb().astype(int) - colour).max() <= 6


def test_a_phone_held_upright_gives_upright_pictures(make_clip: MakeClip, tmp_path: Path) -> None:
    drawn = np.zeros((48, 64, 3), np.uint8)
    drawn[:24, :32] = 255  # top left
    path = make_clip(tmp_path / "phone.mp4", frames=1, size=(64, 48), draw=lambda _: drawn)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2: after version, times, id, duration and layer
    quarter_clockwise = (0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", *quarter_clockwise)
    path.write_bytes(content)
    (frame,) = Captured(path).frames
    assert (frame.picture.width, frame.picture.height) == (48, 64)
    rgb = frame.picture.rgb()
    assert rgb[5, -5].min() > 200 and rgb[5, 5].max() < 50  # it is shown at the top right


def test_loop_goes_on_in_time_and_seq_until_stopped(clip: Path) -> None:
    captured = Captured(clip, loop=True)
    frames = list(itertools.islice(captured.frames, 50))
    assert [frame.seq for frame in frames] == list(range(50))
    steps = np.diff([frame.time_s for frame in frames])
    assert steps.min() > 0 and steps.max() < 0.1
    captured.stop.set()
    assert list(captured.frames) == []
    assert captured.health == [("up", "160x120 h264")]


def told(frame: Frame) -> tuple[int, float, bytes]:
    return frame.seq, round(frame.time_s, 6), frame.picture.rgb().tobytes()


@pytest.mark.parametrize("before", [1, 19, 20, 39, 40, 75])
def test_file_goes_on_where_an_earlier_capture_was(clip: Path, before: int) -> None:
    whole = [told(frame) for frame in itertools.islice(Captured(clip, loop=True).frames, before + 25)]
    later = Captured(clip, first_seq=before, loop=True)
    assert [told(frame) for frame in itertools.islice(later.frames, 25)] == whole[before:]


def test_file_that_an_earlier_capture_read_to_its_end_ends(clip: Path) -> None:
    count = len(list(Captured(clip).frames))
    later = Captured(clip, first_seq=count)
    assert list(later.frames) == []
    assert later.health == [("ended", f"end of the file after {count} frames")]


@pytest.mark.parametrize("pace", ["realtime", "camera"])
def test_frames_that_an_earlier_capture_gave_are_not_waited_for(make_clip: MakeClip, tmp_path: Path, pace: str) -> None:
    slow = make_clip(tmp_path / "slow.mp4", frames=12, size=(64, 48), fps=1)
    began_s = time.monotonic()
    frame = next(Captured(slow, first_seq=10, pace=pace).frames)
    assert frame.seq == 10 and time.monotonic() - began_s < 5


def test_realtime_takes_the_time_of_the_media(clip: Path) -> None:
    began_s = time.monotonic()
    due_s = [frame.time_s - (time.monotonic() - began_s) for frame in Captured(clip, pace="realtime").frames]
    assert time.monotonic() - began_s >= 19 / 20
    assert max(due_s) <= 0.001  # no frame came before its time


def test_stop_interrupts_the_pacing(make_clip: MakeClip, tmp_path: Path) -> None:
    captured = Captured(make_clip(tmp_path / "slow.mp4", frames=3, size=(64, 48), fps=1), pace="realtime")
    next(captured.frames)
    threading.Timer(0.05, captured.stop.set).start()
    began_s = time.monotonic()
    assert list(captured.frames) == []
    assert time.monotonic() - began_s < 0.8


class TestAsACamera:
    """A file that is paced as a camera's."""

    def test_frames_carry_the_moment_at_which_they_were_due(self, clip: Path) -> None:
        frames = []
        for frame in Captured(clip, pace="camera").frames:
            assert time.monotonic_ns() >= frame.clock_ns
            frames.append(frame)
            if frame.seq == 4:
                time.sleep(0.3)  # whoever takes the frames is late, and so are the next ones
        steps_s = np.diff([frame.clock_ns for frame in frames]) / 1e9
        assert steps_s == pytest.approx(1 / 20, abs=1e-6)
        unix_s = np.diff([frame.captured_ns for frame in frames]) / 1e9
        assert unix_s == pytest.approx(1 / 20, abs=0.05)  # from two readings of a clock that may be set meanwhile

    def test_streams_keep_no_step_with_each_other_and_each_begins_alike(self, clip: Path) -> None:
        def delay_s(name: str) -> float:
            began_ns = time.monotonic_ns()
            return (next(Captured(clip, name=name, pace="camera").frames).clock_ns - began_ns) / 1e9

        door, yard, again = delay_s("door"), delay_s("yard"), delay_s("door")
        assert abs(door - yard) > 0.1
        assert door == pytest.approx(again, abs=0.1)  # but for opening the file
        assert max(door, yard) < OUT_OF_STEP_S + 0.2

    def test_it_is_decoded_as_a_live_source_is_and_looked_at_as_a_file_is(self, clip: Path) -> None:
        settings = StreamSettings(name="door", source=str(clip), pace="camera")
        assert waits_for_nobody(settings)
        assert not waits_for_nobody(StreamSettings(name="door", source=str(clip), pace="realtime"))
        assert waits_for_nobody(StreamSettings(name="door", source="rtsp://door/1"))
        assert Captured(clip, pace="camera").until_reports(2)[-1].seq == 19  # it ends


def test_broken_packets_are_skipped_and_decoding_goes_on(clip: Path, tmp_path: Path) -> None:
    broken = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None and packet.size]
    assert packets[12].is_keyframe
    for packet in packets[3:8]:
        assert packet.pos is not None
        broken[packet.pos : packet.pos + packet.size] = random.Random(packet.pos).randbytes(packet.size)
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken)
    captured = Captured(path)
    frames = list(captured.frames)
    assert 11 <= len(frames) < 20
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert frames[-1].time_s == pytest.approx(19 / 20)
    assert captured.health[-1] == ("ended", f"end of the file after {len(frames)} frames; 5 undecodable")


def test_file_cut_off_in_the_middle_gives_what_it_has(transport_stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.ts"
    path.write_bytes(transport_stream[: len(transport_stream) // 2])
    captured = Captured(path)
    assert 1 <= len(list(captured.frames)) < 20
    assert captured.reports[-1].state == "ended"


def test_file_that_vanished_after_the_check_ends_with_its_cause(tmp_path: Path) -> None:
    captured = Captured(tmp_path / "gone.mp4", loop=True)
    assert list(captured.frames) == []
    assert captured.health == [("ended", "does not exist")]


def test_file_with_a_colon_in_its_name_is_no_protocol(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "12:30.mp4"
    path.write_bytes(clip.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert len(list(Captured("12:30.mp4").frames)) == 20


# Refusing files before the start


def text(path: Path) -> None:
    path.write_text("milk, eggs, bread\n" * 100)


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        pytest.param("missing.mp4", None, "does not exist", id="missing"),
        pytest.param("folder", Path.mkdir, "is a folder without pictures (.avif", id="a folder without pictures"),
        pytest.param("empty.mp4", Path.touch, "is not a video", id="empty"),
        pytest.param("noise.mp4", noise, "is not a video", id="noise"),
        pytest.param("list.txt", text, "is not a video", id="text, which FFmpeg would render"),
        pytest.param("sound.wav", sound, "has no video stream", id="sound alone"),
    ],
)
def test_check_source_refuses_a_file(
    tmp_path: Path, name: str, write: Callable[[Path], object] | None, sentence: str
) -> None:
    path = tmp_path / name
    if write:
        write(path)
    whole = re.escape(f"stream 'door': source '{path}' {sentence}")
    with pytest.raises(SourceError, match=f"^{whole}"):
        check_source(StreamSettings(name="door", source=str(path)))


def test_check_source_takes_a_video_and_looks_at_no_live_source(clip: Path) -> None:
    for source in (str(clip), "rtsp://127.0.0.1:9/nobody", "17", "/dev/video17"):
        check_source(StreamSettings(name="door", source=source))


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("rtsp://cam/live", True),
        ("srt://cam:9000", True),
        ("RTMP://cam/live", True),
        ("http://127.0.0.1:9/live.m3u8", True),  # nobody is there: it may come later ...
        ("http://127.0.0.1:9/clip.mp4", False),  # ... but this is a file in any case
        ("file:///clips/door.mp4", False),
        ("-", False),
        ("0", True),
        ("/dev/video2", True),
        ("clips/door.mp4", False),
        ("12:30.mp4", False),
        ("0.mp4", False),
    ],
)
def test_is_live(source: str, live: bool) -> None:
    assert is_live(StreamSettings(name="door", source=source)) is live
    is_camera = source.isdecimal() or source.startswith("/dev/")
    assert is_live(StreamSettings(name="door", source=source, live=not live)) is (live if is_camera else not live)


# Live sources


def test_live_source_that_ends_is_lost_and_comes_back(transport_stream: bytes) -> None:
    with tcp_server([transport_stream], [transport_stream], [transport_stream]) as address:
        captured = Captured(address)
        frames = captured.until_reports(5)
    up, down = ("up", "160x120 h264"), ("down", "the source ended")
    assert captured.health == [up, down, up, down, up]
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert len(frames) >= 40
    times = [frame.time_s for frame in frames]
    assert times[0] == 0.0
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_source_that_freezes_goes_down_after_its_timeout(transport_stream: bytes) -> None:
    with tcp_server([transport_stream], hold=True) as address:
        captured = Captured(address, timeout_s=0.2)
        began_s = time.monotonic()
        frames = captured.until_reports(2)
    assert captured.health == [("up", "160x120 h264"), ("down", "no data for 0.2 s")]
    assert 0.2 <= time.monotonic() - began_s < 2.0
    # Pictures that FFmpeg held until then are no fresh ones.
    assert captured.reports[1].at_ns - frames[-1].captured_ns > 0.15e9


def test_source_that_is_silent_from_the_start_goes_down_after_its_timeout() -> None:
    with tcp_server([], hold=True) as address:
        captured = Captured(address, timeout_s=0.2)
        assert captured.until_reports(1) == []
    assert captured.health == [("down", "no answer within 0.2 s")]


def hollow(cell: bytes) -> bytes:
    """An MPEG-TS packet (ISO/IEC 13818-1) with the headers of pictures (ITU-T H.264, 7.3.1) but no pictures."""
    start = 4 + (1 + cell[4] if cell[3] & 0x20 else 0)  # after the adaptation field
    if cell[start : start + 4] != b"\0\0\1\xe0":
        return cell if cell[1] & 0x40 else cell[:start] + bytes(188 - start)  # a table, or more of a picture
    start += 9 + cell[start + 8]  # after the PES header
    return (cell[:start] + b"\0\0\1\x09\xf0\0\0\1\x65").ljust(188, b"\xff")  # a delimiter and a slice


def test_data_without_pictures_goes_down_although_something_always_arrives(transport_stream: bytes) -> None:
    cells = [transport_stream[start : start + 188] for start in range(0, len(transport_stream), 188)]
    endless = itertools.islice(itertools.cycle([hollow(cell) for cell in cells]), 5000)
    with tcp_server([transport_stream, *endless], pause_s=0.001) as address:
        captured = Captured(address, timeout_s=0.1)
        captured.until_reports(2)
    assert captured.health == [
        ("up", "160x120 h264"),
        ("down", "data arrives, but for 0.4 s no picture could be decoded from it"),
    ]


def test_nonsense_from_a_live_source_is_a_cause_not_an_error() -> None:
    with tcp_server([random.Random(3).randbytes(5000)]) as address:
        captured = Captured(address)
        assert captured.until_reports(1) == []
    assert captured.health == [("down", "is not a video")]


def test_size_change_between_connections_is_told(transport_stream: bytes, larger_transport_stream: bytes) -> None:
    with tcp_server([transport_stream], [larger_transport_stream]) as address:
        captured = Captured(address)
        frames = captured.until_reports(4)
    assert captured.health[:3] == [("up", "160x120 h264"), ("down", "the source ended"), ("up", "192x144 h264")]
    assert frames[-1].picture.width == 192


def test_size_change_within_a_connection_goes_down_and_up_and_on(
    transport_stream: bytes, larger_transport_stream: bytes
) -> None:
    with tcp_server([transport_stream, larger_transport_stream]) as address:
        captured = Captured(address)
        frames = captured.until_reports(4)
    assert captured.health == [
        ("up", "160x120 h264"),
        ("down", "the picture size changed from 160x120 to 192x144"),
        ("up", "192x144 h264"),
        ("down", "the source ended"),
    ]
    assert {frame.picture.planes[0].shape for frame in frames} == {(120, 160), (144, 192)}
    assert [frame.seq for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_nobody_listens_down_is_told_once_without_the_password(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    captured = Captured(f"{scheme}://ada:s3cret@127.0.0.1:{port}/live?token=t0ken", live=True)
    threading.Timer(0.3, captured.stop.set).start()  # time for many attempts
    assert list(captured.frames) == []
    cause = f"Connection refused: nobody listens at 127.0.0.1:{port}; check the port, and whether it is switched on"
    assert captured.health == [("down", cause)]


def test_a_cause_that_quotes_the_address_loses_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, **_: object) -> None:
        raise ValueError(f"bad address {source}")

    monkeypatch.setattr(av, "open", refuse)
    captured = Captured("rtsp://ada:s3cret@cam/live")
    assert captured.until_reports(1) == []
    assert captured.health == [("down", "cannot be opened: bad address rtsp://***@cam/live")]


def test_stop_interrupts_a_long_backoff() -> None:
    captured = Captured("tcp://127.0.0.1:9", reconnect_min_s=60.0, reconnect_max_s=60.0)
    threading.Timer(0.1, captured.stop.set).start()
    began_s = time.monotonic()
    assert list(captured.frames) == []
    assert time.monotonic() - began_s < 2.0


def test_leaving_early_closes_the_connection(transport_stream: bytes) -> None:
    with tcp_server([transport_stream], hold=True) as address:
        captured = Captured(address, timeout_s=0.2)
        next(captured.frames)
        port = int(address.rpartition(":")[2])
        captured.frames.close()  # type: ignore[attr-defined]
        assert not any(
            line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01"
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        )


# Cameras


class FakeCamera:
    """Stands in for cv2.VideoCapture: gives three blue pictures, then none."""

    released = 0

    def __init__(self, device: int | str) -> None:
        self.device = device
        self._left = 3

    def isOpened(self) -> bool:  # noqa: N802, OpenCV's name
        return self.device in (0, "/dev/null")

    def read(self) -> tuple[bool, Pixels | None]:
        self._left -= 1
        return (True, np.full((4, 6, 3), (255, 0, 0), np.uint8)) if self._left >= 0 else (False, None)

    def set(self, what: int, value: float) -> bool:
        return False

    def get(self, what: int) -> float:
        return 0.0

    def release(self) -> None:
        FakeCamera.released += 1


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(sys, "platform", "elsewhere")  # where cameras are no files
    FakeCamera.released = 0


@pytest.mark.usefixtures("cameras")
def test_camera_gives_rgb_pictures_is_released_and_opened_again_when_it_fails() -> None:
    captured = Captured("0")
    frames = captured.until_reports(4)
    assert captured.health == [("up", "6x4 camera"), ("down", "the camera gives no pictures any more")] * 2
    assert len(frames) == 6
    assert (frames[0].picture.rgb() == [0, 0, 255]).all()
    assert FakeCamera.released == 2


class ModeCamera(FakeCamera):
    """Has MJPG at 6x4 and 25 frames/s, whatever else it is asked for; sizes are known once the format is."""

    asked: ClassVar[list[int]] = []

    def set(self, what: int, value: float) -> bool:
        ModeCamera.asked.append(what)
        return True

    def get(self, what: int) -> float:
        modes = {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"), cv2.CAP_PROP_FPS: 25.0}
        return float(modes.get(what, 0.0))


@pytest.mark.usefixtures("cameras")
def test_a_camera_is_asked_for_a_mode_and_what_it_gives_instead_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", ModeCamera)
    ModeCamera.asked.clear()
    wanted = {"width": 1920, "height": 4, "rate_hz": 30.0, "pixel_format": "MJPG"}
    captured = Captured("0", camera=msgspec.convert(wanted, CameraSettings))
    captured.until_reports(1)
    assert captured.health[0] == (
        "up", "6x4 camera MJPG 25 frames/s, width 6 instead of 1920, rate_hz 25 instead of 30",
    )  # fmt: skip
    assert ModeCamera.asked == [
        cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS,
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["MJ", "MJPEG", ""])
def test_a_pixel_format_is_four_letters(code: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"matching regex"):
        msgspec.convert({"pixel_format": code}, CameraSettings)


class HangingCamera(FakeCamera):
    """Its second read hangs until it is let go; those that are opened after it give pictures for ever."""

    opened, reading = 0, 0  # reading: how many reads are under way
    go_on = threading.Event()

    def __init__(self, device: int | str) -> None:
        super().__init__(device)
        HangingCamera.opened += 1
        self._hangs = HangingCamera.opened == 1
        self._left = 1_000_000

    def read(self) -> tuple[bool, Pixels | None]:
        if self._hangs and self._left < 1_000_000:
            HangingCamera.reading += 1
            assert HangingCamera.go_on.wait(PATIENCE_S)
            HangingCamera.reading -= 1
        return super().read()


HUNG = ("down", "the camera has given no picture for 0.2 s: a read of it hangs")


@pytest.fixture
def hanging_camera(cameras: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cv2, "VideoCapture", HangingCamera)
    HangingCamera.opened = HangingCamera.reading = 0
    HangingCamera.go_on.clear()
    yield
    HangingCamera.go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("camera "):
            thread.join(PATIENCE_S)


@pytest.mark.usefixtures("hanging_camera")
def test_a_camera_whose_read_hangs_is_down_within_its_timeout_and_comes_back_with_the_read() -> None:
    captured = Captured("0", timeout_s=0.2)
    next(captured.frames)
    began_s = time.monotonic()
    threading.Timer(1.0, HangingCamera.go_on.set).start()
    frame = next(captured.frames)
    assert captured.health == [("up", "6x4 camera"), HUNG, ("up", "6x4 camera")]
    told_s = (captured.reports[1].at_ns - captured.reports[0].at_ns) / 1e9
    assert 0.2 <= told_s < 1.0 < time.monotonic() - began_s
    assert frame.seq == 1
    assert (HangingCamera.opened, HangingCamera.released) == (2, 1)
    captured.stop.set()
    list(captured.frames)
    assert HangingCamera.released == 2


@pytest.mark.usefixtures("hanging_camera")
def test_a_camera_whose_read_hangs_for_ever_holds_one_thread_and_does_not_hold_up_a_stop() -> None:
    captured = Captured("0", timeout_s=0.2)
    next(captured.frames)
    threading.Timer(1.0, captured.stop.set).start()  # after several attempts
    assert list(captured.frames) == []
    assert captured.health == [("up", "6x4 camera"), HUNG]
    assert (HangingCamera.opened, HangingCamera.reading) == (1, 1)


@pytest.mark.usefixtures("cameras")
def test_camera_in_use_is_a_cause_and_is_released() -> None:
    captured = Captured("1")
    assert captured.until_reports(1) == []
    assert captured.health == [("down", "the camera /dev/video1 cannot be opened; another program may be using it")]
    assert FakeCamera.released == 1


@pytest.mark.skipif(not Path("/dev").exists() or Path("/dev/video97").exists(), reason="cameras are not files here")
def test_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    captured = Captured("97")
    assert captured.until_reports(1) == []
    assert captured.health == [("down", "there is no camera /dev/video97")]
    assert capfd.readouterr().err == ""


# Backoff and condition: no clock, no source


@given(min_s=st.floats(0.01, 5), factor=st.floats(1, 100), seed=st.integers(0, 999))
def test_backoff_doubles_up_to_its_limit_with_jitter_below(min_s: float, factor: float, seed: int) -> None:
    backoff = Backoff(min_s, min_s * factor, random.Random(seed))
    for attempt in range(12):
        limit_s = min(min_s * 2**attempt, min_s * factor)
        assert limit_s / 2 <= backoff.next() <= limit_s * (1 + 1e-9)


def test_backoff_begins_again_after_a_success() -> None:
    backoff = Backoff(1.0, 60.0, random.Random(0))
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 1.0


def test_backoffs_of_two_streams_differ() -> None:
    waits = [[Backoff(1.0, 60.0, random.Random(seed)).next() for _ in range(3)] for seed in (1, 2)]
    assert waits[0] != waits[1]


def test_condition_tells_changes_alone() -> None:
    reports: list[Health] = []
    condition = Condition("door", reports.append)
    condition.lost("refused")
    condition.lost("refused")
    condition.lost("unreachable")
    condition.picture((64, 48), "h264")
    condition.picture((64, 48), "h264")
    condition.lost("unreachable")
    condition.picture((64, 48), "hevc")
    condition.ended("stopped")
    assert [(report.state, report.cause) for report in reports] == [
        ("down", "refused"),
        ("down", "unreachable"),
        ("up", "64x48 h264"),
        ("down", "unreachable"),
        ("up", "64x48 hevc"),
        ("ended", "stopped"),
    ]
    assert {report.stream for report in reports} == {"door"}
