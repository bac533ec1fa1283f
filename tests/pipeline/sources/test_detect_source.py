"""A smaller stream for the network beside the source: frames come from the one, packets from the other."""

import time

import msgspec
import pytest

from engines.errors import ConfigError
from pipeline.settings.load import parse
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import check_source, picture_bytes
from tests.pipeline.made_clips import write_clip
from tests.pipeline.sources.test_packets import Watched, numbered

LARGE, SMALL = (320, 240), (160, 120)
FRAMES = 50

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> StreamSettings:
    folder = tmp_path_factory.mktemp("door")
    for name, size in (("large", LARGE), ("small", SMALL)):
        write_clip(folder / f"{name}.mp4", FRAMES, size, draw=numbered)
    return StreamSettings(
        name="door", source=str(folder / "large.mp4"), detect_source=str(folder / "small.mp4"), pace="realtime"
    )


def test_frames_are_the_small_ones_and_packets_those_of_the_source_at_the_same_times(door: StreamSettings) -> None:
    watched = Watched(door).run()
    assert [frame.seq for frame in watched.frames] == list(range(FRAMES))
    assert {(frame.picture.width, frame.picture.height) for frame in watched.frames} == {SMALL}
    assert {packet.size for packet in watched.packets} == {LARGE}
    assert len(watched.packets) >= FRAMES - 3
    assert watched.packets[0].key
    by_time = {round(frame.time_s, 3): frame for frame in watched.frames}
    for packet in watched.packets:
        frame = by_time[round(packet.time_s, 3)]
        assert abs(packet.captured_ns - frame.captured_ns) < 1_000_000


def test_nothing_of_the_source_is_decoded(door: StreamSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = set[tuple[int, int]]()
    from pipeline.sources import decode

    before = decode.Decoder.decode

    def counted(self: decode.Decoder, packet: object) -> object:
        sizes.add((self._context.width, self._context.height))
        return before(self, packet)  # type: ignore[arg-type]

    monkeypatch.setattr(decode.Decoder, "decode", counted)
    Watched(msgspec.structs.replace(door, pace="fast")).run()
    assert sizes == {SMALL}


def test_shared_memory_is_taken_for_the_small_pictures(door: StreamSettings) -> None:
    assert picture_bytes(door, (1920, 1080)) == 160 * 120 * 3 // 2
    check_source(door)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loop": True}, "loop is true, but must be false with detect_source"),
        ({"source": "0"}, "source is '0', which gives pictures, not packets"),
        ({"source": "rtsp://10.0.0.1/main"}, "detect_source is a file, but must be live as its source is"),
    ],
)
def test_what_does_not_go_together_is_refused(door: StreamSettings, changed: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_source(msgspec.structs.replace(door, **changed))


def test_a_password_in_it_is_encoded_and_hidden_as_that_of_the_source() -> None:
    text = '[[streams]]\nname = "a"\nsource = "rtsp://${W}@h/1"\ndetect_source = "rtsp://${W}@h/2"\n'
    (stream,) = parse(text, "x.toml", {"W": "u:p@ss"}).streams
    assert stream.detect_source == "rtsp://u:p%40ss@h/2"


def test_a_live_source_that_ends_is_opened_again_and_its_packets_have_the_time_they_came_at(
    door: StreamSettings,
) -> None:
    live = msgspec.structs.replace(door, live=True, reconnect_min_s=0.05, reconnect_max_s=0.1)
    began_ns = time.time_ns()
    watched = Watched(live).run(enough=2 * FRAMES)
    assert len(watched.packets) >= 2 * FRAMES, "the file has half as many"
    assert {packet.size for packet in watched.packets} == {LARGE}
    newest = watched.frames[-1]
    for packet in watched.packets:
        assert began_ns - 1e9 < packet.captured_ns < time.time_ns() + 1.1e9
        # Stream time and time of day are those of the frames beside it.
        assert packet.time_s - newest.time_s == pytest.approx((packet.captured_ns - newest.captured_ns) / 1e9, abs=0.2)
