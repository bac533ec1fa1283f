"""Files into frames, and what of them is refused."""

import itertools
import random
import re
import struct
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from engines.errors import SourceError
from pipeline.frames.picture import Matrix
from pipeline.frames.types import Frame
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import check_source, waits_for_nobody
from pipeline.sources.file import OUT_OF_STEP_S
from pipeline.sources.kind import is_live
from tests.pipeline.made_captures import Captured, MakeClip


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
        pytest.param("empty.mp4", Path.touch, "is empty", id="empty"),
        pytest.param("noise.mp4", noise, "is not a video", id="noise"),
        pytest.param("list.txt", text, "is not a video", id="text, which FFmpeg would render"),
        pytest.param("list.m3u8", text, "is not a playlist of video that can be read: ", id="an empty playlist"),
        pytest.param("clip.mpd", text, "is a playlist of DASH, which FFmpeg cannot read here: ", id="DASH"),
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
