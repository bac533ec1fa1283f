import io
import json

import av
import msgspec
import pytest

from engines.errors import MessageError
from pipeline.wire.live_video import LiveVideo
from pipeline.wire.packets import PacketMessage
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_packets import packets_of

BEGAN_NS = 1_795_425_247_120_000_000


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> list[PacketMessage]:
    """Forty, with a key frame every ten."""
    options = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "0"}
    return packets_of(write_clip(tmp_path_factory.mktemp("live") / "clip.mp4", 40, options=options), BEGAN_NS)


def sent(packets: list[PacketMessage]) -> tuple[LiveVideo, list[str | bytes]]:
    video = LiveVideo()
    return video, [part for packet in packets for part in video.take(packet)]


def times(parts: list[str | bytes]) -> list[float]:
    """Capture times of the pictures, seconds since the first packet."""
    base_ns = json.loads(parts[0])["base_ns"]
    with av.open(io.BytesIO(b"".join(part for part in parts if isinstance(part, bytes)))) as container:
        return [(base_ns - BEGAN_NS) / 1e9 + (frame.time or 0.0) for frame in container.decode(video=0)]


def test_a_viewer_gets_words_then_mp4_from_a_key_frame_on(packets: list[PacketMessage]) -> None:
    video, parts = sent(packets[5:])
    assert json.loads(parts[0])["codec"].startswith('video/mp4; codecs="avc1.')
    assert [type(part) for part in parts[1:]] == [bytes] * (len(parts) - 1)
    assert times(parts) == pytest.approx([number / 25 for number in range(10, 39)], abs=1e-3)
    assert not video.over


def test_after_a_loss_pictures_go_on_with_the_next_key_frame(packets: list[PacketMessage]) -> None:
    _, parts = sent([*packets[:13], *packets[14:]])
    assert times(parts) == pytest.approx([number / 25 for number in (*range(13), *range(20, 39))], abs=1e-3)


def test_the_capture_time_of_each_picture_is_told_where_it_does_not_follow_the_stream_s(
    packets: list[PacketMessage],
) -> None:
    """As of a file that is read at half its pace from its tenth picture on."""
    slow = [
        msgspec.structs.replace(packet, captured_ns=packet.captured_ns + max(0, packet.number - 10) * 40_000_000)
        for packet in packets
    ]
    _, parts = sent(slow)
    said = [json.loads(part) for part in parts if isinstance(part, str)]
    assert len(said) == 1 + len(packets) - 11, "the first ten follow from the first"
    with av.open(io.BytesIO(b"".join(part for part in parts if isinstance(part, bytes)))) as container:
        media = [frame.time or 0.0 for frame in container.decode(video=0)]
    for packet, media_s in zip(slow, media, strict=False):
        base_ns = [each["base_ns"] for each in said if each.get("from_s", 0.0) <= media_s + 0.002][-1]
        assert abs(base_ns + media_s * 1e9 - packet.captured_ns) < 2e6


@pytest.mark.parametrize("change", [{"session": 2}, {"extradata": b"other"}])
def test_it_is_over_when_the_stream_is_another(packets: list[PacketMessage], change: dict[str, object]) -> None:
    other = [msgspec.structs.replace(packet, **change) for packet in packets[20:]]
    video, parts = sent([*packets[:20], *other])
    assert video.over and len(times(parts)) == 19


def test_pictures_without_packets_are_refused(packets: list[PacketMessage]) -> None:
    with pytest.raises(MessageError, match="no packets that browsers play"):
        sent([msgspec.structs.replace(packets[0], codec="mjpeg")])
