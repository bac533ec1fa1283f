"""Addresses that come and go into frames."""

import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.frames.types import Health
from pipeline.sources.condition import Condition
from tests.pipeline.made_captures import PATIENCE_S, Captured
from tests.pipeline.made_clips import drawn


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


def test_video_that_freezes_while_its_sound_goes_on_goes_down_after_its_timeout(tmp_path: Path) -> None:
    path = tmp_path / "clip.ts"
    with av.open(str(path), "w") as container:
        video, sound = (
            container.add_stream("libx264", rate=25, options={"bf": "0"}),
            container.add_stream("mp2", 16_000),
        )
        video.width, video.height, video.pix_fmt, sound.layout = 64, 48, "yuv420p", "mono"
        for index in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(drawn(index, (64, 48)), "rgb24")))
        container.mux(video.encode())
        for index in range(140):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
            silence.sample_rate, silence.pts = 16_000, 1152 * index
            container.mux(sound.encode(silence))
        container.mux(sound.encode())
    content = path.read_bytes()
    rest = [content[start : start + 5 * 188] for start in range(len(content) // 4, len(content), 5 * 188)]
    endless = itertools.islice(itertools.cycle(rest), 1000)
    with tcp_server([content[: len(content) // 4], *endless], pause_s=0.02) as address:
        captured = Captured(address, timeout_s=0.5)
        captured.until_reports(2)
    assert captured.health == [("up", "64x48 h264"), ("down", "no data for 0.5 s")]


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
    endless = itertools.repeat(b"".join(hollow(cell) for cell in cells), 500)
    with tcp_server([transport_stream, *endless], pause_s=0.02) as address:
        captured = Captured(address, timeout_s=0.3)
        captured.until_reports(2)
    assert captured.health == [
        ("up", "160x120 h264"),
        ("down", "data arrives, but for 1.2 s no picture could be decoded from it"),
    ]


def test_nonsense_from_a_live_source_is_a_cause_not_an_error() -> None:
    with tcp_server([random.Random(3).randbytes(5000)]) as address:
        captured = Captured(address)
        assert captured.until_reports(1) == []
    assert captured.health == [
        ("down", "hangs up, or sends what is not a video: check the address, and whether the other end is ready")
    ]


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


def test_condition_tells_each_size_of_a_buffer() -> None:
    reports: list[Health] = []
    condition = Condition("door", reports.append)
    for delay in (1, 1, 2, 2, 1):
        condition.picture((64, 48), "h264", ("interlaced",), f"buffered by {delay} s")
    condition.lost("refused")
    condition.picture((64, 48), "h264", (), "buffered by 1 s")
    assert [report.cause for report in reports] == [
        "64x48 h264, interlaced, buffered by 1 s",
        "64x48 h264, interlaced, buffered by 2 s",
        "64x48 h264, interlaced, buffered by 1 s",
        "refused",
        "64x48 h264, buffered by 1 s",
    ]


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
