from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from engines.errors import ConfigError, SourceError
from tools.benchmarking import clip as module
from tools.benchmarking.clip import BITS_PER_PIXEL, RATE, Scenery, check_file, describe, lengthen, render
from tools.benchmarking.stages import measure_decode

SIZE = (160, 96)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a clip: made.mp4"  # FFmpeg would take the colon for a protocol's
    render(path, SIZE, seconds=1)
    return path


def times_of(path: str) -> list[float]:
    with av.open(path) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_it_is_the_same_every_time(clip: Path, tmp_path: Path) -> None:
    render(tmp_path / "again.mp4", SIZE, seconds=1)
    assert (tmp_path / "again.mp4").read_bytes() == clip.read_bytes()


def test_its_bitrate_is_that_of_a_camera(clip: Path) -> None:
    facts = describe(str(clip), made=True)
    assert (facts.source, facts.width, facts.height, facts.codec) == (None, *SIZE, "h264")
    assert (facts.frames_per_s, facts.seconds) == (RATE, 1.0)
    wanted = BITS_PER_PIXEL * SIZE[0] * SIZE[1] * RATE
    assert facts.bits_per_s == pytest.approx(wanted, rel=0.5)  # a second is short for rate control


def test_everything_in_it_moves() -> None:
    scenery = Scenery(SIZE)
    changed = scenery.frame(0) != scenery.frame(RATE)
    assert changed.mean() > 0.5
    assert scenery.frame(3).std() > 20
    assert np.array_equal(scenery.frame(3), Scenery(SIZE).frame(3))


def test_a_live_source_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError, match=r"--source is 'rtsp://\*\*\*@door/1', but must be a file"):
        check_file("rtsp://ada:hunter2@door/1")


def test_a_file_without_a_picture_in_it(clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content[:start] + bytes(end - start) + content[end:])
    check_file(str(broken))  # its header is whole
    with pytest.raises(SourceError, match="no picture can be decoded"):
        measure_decode([str(broken)], 0.1)


class TestLengthen:
    @pytest.fixture(autouse=True)
    def _few_frames(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MIN_FRAMES", 60)

    def test_a_short_clip_follows_itself_without_a_gap(self, clip: Path, tmp_path: Path) -> None:
        times = times_of(lengthen(str(clip), tmp_path / "long.mkv"))
        assert len(times) == 75  # whole passes
        assert np.diff(times) == pytest.approx(1 / RATE, abs=0.0011)  # Matroska counts milliseconds

    def test_the_rate_is_another_and_the_pictures_are_the_same(self, clip: Path, tmp_path: Path) -> None:
        path = lengthen(str(clip), tmp_path / "slow.mkv", rate=5)
        assert np.diff(times_of(path)) == pytest.approx(0.2, abs=0.0011)
        with av.open(path) as slow, av.open(f"file:{clip}") as own:
            pairs = zip(slow.decode(video=0), own.decode(video=0), strict=False)
            assert all(np.array_equal(one.to_ndarray(), other.to_ndarray()) for one, other in pairs)

    def test_pictures_that_are_stored_in_another_order_keep_theirs(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "b.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=RATE, options={"bf": "3", "b_strategy": "0"})
            stream.width, stream.height, stream.pix_fmt = (*SIZE, "yuv420p")
            for number in range(25):
                picture = av.VideoFrame.from_ndarray(Scenery(SIZE).frame(number), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        times = times_of(lengthen(str(tmp_path / "b.mp4"), tmp_path / "long.mkv", rate=50))
        assert len(times) == 75
        assert np.diff(times) == pytest.approx(0.02, abs=0.0011)

    def test_a_file_without_times_is_played_as_it_is(self, make_clip: Callable[..., Path], tmp_path: Path) -> None:
        raw = str(make_clip(tmp_path / "raw.h264", frames=5, size=SIZE))
        assert lengthen(raw, tmp_path / "long.mkv") == raw
        with pytest.raises(ConfigError, match="has no times: it cannot be played at 30 frames/s"):
            lengthen(raw, tmp_path / "long.mkv", rate=30)
