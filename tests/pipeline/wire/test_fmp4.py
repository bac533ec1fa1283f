import io
import os
from pathlib import Path

import av
import msgspec
import pytest

from engines.errors import MessageError
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packets import PacketMessage
from pipeline.wire.parameter_sets import (
    h264_record,
    hevc_record,
    is_annex_b,
    nal_units,
    parameter_sets,
    with_lengths,
)
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_packets import packets_of

FRAMES, RATE = 25, 25
FAST = {
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


def clip_of(path: Path, codec: str, **more: object) -> Path:
    # SVT-AV1 makes the thread that opens it a real-time one, where it may (as root): what follows would hold a core.
    scheduling, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        return write_clip(path, FRAMES, (320, 240), RATE, codec, FAST.get(codec, {}), **more)  # type: ignore[arg-type]
    finally:
        os.sched_setscheduler(0, scheduling, priority)


def whole(packets: list[PacketMessage]) -> tuple[Fragmenter, bytes]:
    fragmenter = Fragmenter(packets[0])
    return fragmenter, fragmenter.init + b"".join(map(fragmenter.fragment, packets)) + fragmenter.rest()


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_packets_come_out_of_the_file_bit_for_bit_at_their_stream_time(tmp_path: Path, codec: str, suffix: str) -> None:
    packets = packets_of(clip_of(tmp_path / f"clip.{suffix}", codec))
    _, data = whole(packets)
    with av.open(io.BytesIO(data)) as container:
        (video,) = container.streams.video
        found = [packet for packet in container.demux(video) if packet.size]
    first = min(packet.pts or 0 for packet in found)
    assert len(found) == len(packets) == FRAMES
    for packet, made in zip(packets, found, strict=True):
        expected = with_lengths(nal_units(packet.data)) if is_annex_b(packet.data) else packet.data
        assert bytes(made) == expected
        assert made.is_keyframe == packet.key
        assert made.pts is not None and made.time_base is not None
        assert float((made.pts - first) * made.time_base) == pytest.approx(packet.time_s, abs=1e-4)


def test_av1_of_a_file_comes_out_bit_for_bit(tmp_path: Path) -> None:
    packets = packets_of(clip_of(tmp_path / "clip.mp4", "libsvtav1"))
    fragmenter, data = whole(packets)
    with av.open(io.BytesIO(data)) as container:
        found = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert found == [packet.data for packet in packets]
    assert fragmenter.mime.startswith('video/mp4; codecs="av01.0.')


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_every_picture_can_be_decoded(tmp_path: Path, codec: str) -> None:
    packets = packets_of(clip_of(tmp_path / "clip.ts", codec))
    with av.open(io.BytesIO(whole(packets)[1])) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == FRAMES
    assert (frames[0].width, frames[0].height) == (320, 240)


def test_the_configuration_records_are_those_that_ffmpeg_makes_of_the_same_parameter_sets(tmp_path: Path) -> None:
    for codec, record in (("libx264", h264_record), ("libx265", hevc_record)):
        path = clip_of(tmp_path / f"{codec}.ts", codec)
        remuxed = tmp_path / f"{codec}.mp4"
        with av.open(str(path)) as there, av.open(str(remuxed), "w") as here:
            out = here.add_stream_from_template(there.streams.video[0])
            for packet in there.demux(video=0):
                if packet.size:
                    packet.stream = out
                    here.mux(packet)
        in_ts = packets_of(path)[0].extradata
        made, reference = record(in_ts), packets_of(remuxed)[0].extradata
        if codec == "libx264":
            assert made == reference
        else:  # FFmpeg tells more of what it saw than must be told: all up to there, and each parameter set
            assert made[:13] == reference[:13] and made[16:19] == reference[16:19]
            assert all(unit in made for unit in nal_units(in_ts) if unit[0] >> 1 & 63 in (32, 33, 34))


def test_the_codec_is_named_from_its_sps(tmp_path: Path) -> None:
    packets = packets_of(clip_of(tmp_path / "clip.ts", "libx264"))
    sps = next(unit for unit in nal_units(packets[0].extradata) if unit[0] & 31 == 7)
    assert Fragmenter(packets[0]).mime == f'video/mp4; codecs="avc1.{sps[1:4].hex()}"'
    hevc = packets_of(clip_of(tmp_path / "hevc.ts", "libx265"))
    assert Fragmenter(hevc[0]).mime == 'video/mp4; codecs="hvc1.1.6.L60.90"'


def test_parameter_sets_are_found_in_the_key_frame_of_a_source_that_told_none_before(tmp_path: Path) -> None:
    packets = packets_of(clip_of(tmp_path / "clip.ts", "libx264"))
    assert list(nal_units(parameter_sets("h264", packets[0].data))) == list(nal_units(packets[0].extradata))
    assert parameter_sets("h264", packets[1].data) == b""
    sps = next(unit for unit in nal_units(packets[0].data) if unit[0] & 31 == 7)
    assert parameter_sets("h264", b"\x00\x00\x01" + sps) == b""  # alone it does not say how to decode anything


def test_media_time_tells_when_each_picture_was_captured(tmp_path: Path) -> None:
    began_ns = 1_795_425_247_120_000_000
    packets = packets_of(clip_of(tmp_path / "clip.mp4", "libx264"), began_ns)
    fragmenter, data = whole(packets)
    with av.open(io.BytesIO(data)) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    captured = sorted(packet.captured_ns for packet in packets)
    assert packets[1].pts != packets[1].dts, "the clip must have pictures that are decoded before others are shown"
    for time_s, captured_ns in zip(shown, captured, strict=True):
        assert time_s is not None
        assert abs(fragmenter.base_ns + time_s * 1e9 - captured_ns) < 1e6  # of 40 ms that a frame lasts


def test_a_fragment_is_given_once_the_next_picture_is_there_and_tells_how_long_it_lasts(tmp_path: Path) -> None:
    packets = packets_of(write_clip(tmp_path / "clip.mp4", 4, codec="libx264", options={"bf": "0"}))
    late = [
        msgspec.structs.replace(packet, time_s=packet.time_s + (index >= 2)) for index, packet in enumerate(packets)
    ]
    fragmenter = Fragmenter(late[0])
    pieces = [fragmenter.fragment(packet) for packet in late] + [fragmenter.rest()]
    assert pieces[0] == b"" and all(pieces[1:])
    with av.open(io.BytesIO(fragmenter.init + b"".join(pieces))) as container:
        lasts = [packet.duration for packet in container.demux(video=0) if packet.size]
    assert lasts == [3600, 93600, 3600, 3600]


def test_times_that_stand_still_or_go_back_still_rise_in_the_file(tmp_path: Path) -> None:
    packets = packets_of(write_clip(tmp_path / "clip.mp4", 5, codec="libx264", options={"bf": "0"}))
    odd = [
        msgspec.structs.replace(each, time_s=at) for each, at in zip(packets, (0.0, 0.1, 0.1, 0.05, 0.2), strict=True)
    ]
    with av.open(io.BytesIO(whole(odd)[1])) as container:
        times = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert times == sorted(set(times)), times  # type: ignore[type-var]


def test_what_comes_before_the_first_key_frame_is_left_out(tmp_path: Path) -> None:
    packets = packets_of(clip_of(tmp_path / "clip.mp4", "libx264"))
    fragmenter = Fragmenter(packets[0])
    assert fragmenter.fragment(packets[1]) == b"" and fragmenter.rest() == b""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"codec": "mjpeg"}, "codec is 'mjpeg', but must be"),
        ({"extradata": b""}, "a configuration record has 0 bytes"),
        ({"extradata": b"\x00\x00\x01\x67\x64\x00\x0d"}, "a parameter set is missing"),
        ({"codec": "hevc", "extradata": b"\x01" * 5}, "a configuration record has 5 bytes"),
        ({"codec": "av1", "extradata": b"\x0a\x0b"}, "AV1 without a configuration record"),
    ],
)
def test_what_cannot_be_put_into_mp4_is_refused_in_a_sentence(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    packet = packets_of(write_clip(tmp_path / "clip.mp4", 2))[0]
    with pytest.raises(MessageError, match=sentence):
        Fragmenter(msgspec.structs.replace(packet, **change))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_picture_is_shown_turned(tmp_path: Path, degrees: int) -> None:
    packet = packets_of(write_clip(tmp_path / "clip.mp4", 2))[0]
    turned = msgspec.structs.replace(packet, rotation=degrees)
    with av.open(io.BytesIO(whole([turned])[1])) as container:
        frame = next(container.decode(video=0))
    assert -frame.rotation % 360 == degrees  # FFmpeg counts the other way
