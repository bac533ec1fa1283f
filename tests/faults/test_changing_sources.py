"""Sources that become other ones: codec, rate, time stamps that wrap, and many short connections."""

from pathlib import Path
from typing import Any

import av
import pytest

from tests.pipeline.made_captures import Captured
from tests.pipeline.made_clips import write_clip
from tests.pipeline.sources.test_live import tcp_server

FLAPS = 100
FLAPS_S = 60.0  # that they may take on a busy machine
WRAP_S = 2**33 / 90_000  # after which the time stamps of MPEG-TS begin again
PLAIN: dict[str, Any] = {"frames": 20, "size": (160, 120)}
HEVC = {"x265-params": "log-level=none:keyint=10:pools=1"}


@pytest.fixture(scope="module")
def h264(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "h264.ts", **PLAIN).read_bytes()


def ups(captured: Captured) -> list[str]:
    return [cause for state, cause in captured.health if state == "up"]


def test_another_codec_is_decoded_and_told(h264: bytes, tmp_path: Path) -> None:
    hevc = write_clip(tmp_path / "hevc.ts", codec="libx265", options=HEVC, **PLAIN).read_bytes()
    with tcp_server([h264], [hevc], [h264]) as address:
        captured = Captured(address)
        frames = captured.until_reports(6)
    assert ups(captured) == ["160x120 h264", "160x120 hevc", "160x120 h264"]
    assert len(frames) == 3 * PLAIN["frames"]


def test_another_rate_is_followed(h264: bytes, tmp_path: Path) -> None:
    slow = write_clip(tmp_path / "slow.ts", rate=5, **PLAIN).read_bytes()
    with tcp_server([h264], [slow]) as address:
        captured = Captured(address)
        frames = captured.until_reports(4)
    assert ups(captured) == ["160x120 h264"] * 2
    assert len(frames) == 2 * PLAIN["frames"]
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)


def test_time_stamps_that_wrap_go_on(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "wraps.ts", container_options={"output_ts_offset": f"{WRAP_S - 0.6:.3f}"}, **PLAIN)
    with av.open(str(path), options={"correct_ts_overflow": "0"}) as container:
        stamps = [packet.pts for packet in container.demux() if packet.pts is not None]
    assert max(stamps) - min(stamps) > 2**32, "the clip does not wrap"
    with tcp_server([path.read_bytes()]) as address:
        captured = Captured(address)
        frames = captured.until_reports(2)
    times = [frame.time_s for frame in frames]
    assert len(frames) == PLAIN["frames"] and times == sorted(times) and times[-1] < 60.0


def test_a_hundred_flaps_end_in_a_stream_that_is_up(h264: bytes) -> None:
    with tcp_server(*([h264[: len(h264) // 2]] for _ in range(FLAPS)), [h264], hold=True) as address:
        captured = Captured(address, timeout_s=5.0)
        frames = captured.until_reports(2 * FLAPS + 1, FLAPS_S)
    assert len(ups(captured)) == FLAPS + 1
    assert len({frame.seq for frame in frames}) == len(frames) > FLAPS
