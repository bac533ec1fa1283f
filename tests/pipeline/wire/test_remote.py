"""Frames between hosts: the message, and what is made of a row of them."""

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import ConfigError, MessageError
from pipeline.cluster.forwarding import check_hosts
from pipeline.frames.jpeg import JpegDecoder, JpegEncoder
from pipeline.frames.picture import Matrix, Picture
from pipeline.frames.types import Frame
from pipeline.settings.load import load
from pipeline.settings.schema import StreamSettings
from pipeline.wire.remote import (
    MAX_MISSING,
    Arrivals,
    Buffer,
    LossHeader,
    Origin,
    PictureHeader,
    pack_loss,
    pack_picture,
    unpack,
)

SESSION = 1_700_000_000_000_000_000


def make_picture(width: int, height: int, seed: int = 0, matrix: Matrix = "bt709", full_range: bool = False) -> Picture:
    """Noise that is smooth enough for a JPEG, in planes with a gap between rows, as decoders leave it."""
    rng = np.random.default_rng(seed)
    sizes = ((height, width), ((height + 1) // 2, (width + 1) // 2), ((height + 1) // 2, (width + 1) // 2))
    planes = []
    for rows, columns in sizes:
        steps = rng.integers(-3, 4, (rows, columns + 5)).cumsum(axis=1)
        planes.append((128 + steps.clip(-100, 100)).astype(np.uint8)[:, :columns])
    return Picture(tuple(planes), width, height, full_range, matrix)


def make_frame(picture: Picture, seq: int = 7) -> Frame:
    return Frame("door", seq, SESSION + 40, 5, 0.28, picture)


def packed(encoder: JpegEncoder | None = None, width: int = 32, height: int = 24) -> list[bytes]:
    return [bytes(part) for part in pack_picture(make_frame(make_picture(width, height)), SESSION, encoder)]


def arrive(parts: list[Any]) -> tuple[PictureHeader, Picture]:
    said = unpack(parts, "door", JpegDecoder())
    assert isinstance(said, tuple)
    return said


# The message


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    seed=st.integers(0, 1000),
    matrix=st.sampled_from(["bt601", "bt709", "bt2020"]),
    full_range=st.booleans(),
)
def test_raw_pictures_arrive_as_they_were(width: int, height: int, seed: int, matrix: Matrix, full_range: bool) -> None:
    frame = make_frame(make_picture(width, height, seed, matrix, full_range))
    header, picture = arrive(pack_picture(frame, SESSION, None))
    assert (header.stream, header.seq, header.captured_ns, header.time_s) == ("door", 7, SESSION + 40, 0.28)
    assert (picture.width, picture.height) == (width, height)
    assert (picture.matrix, picture.full_range) == (matrix, full_range)
    for sent, arrived in zip(frame.picture.planes, picture.planes, strict=True):
        assert np.array_equal(sent, arrived)
        assert not arrived.flags.writeable


@given(width=st.integers(2, 70), height=st.integers(2, 70), seed=st.integers(0, 1000), full_range=st.booleans())
def test_jpeg_pictures_arrive_nearly_as_they_were(width: int, height: int, seed: int, full_range: bool) -> None:
    frame = make_frame(make_picture(width, height, seed, "bt2020", full_range))
    header, picture = arrive(pack_picture(frame, SESSION, JpegEncoder(95)))
    assert header.encoding == "jpeg"
    assert (picture.width, picture.height) == (width, height)
    assert (picture.matrix, picture.full_range) == ("bt2020", full_range)
    for sent, arrived in zip(frame.picture.planes, picture.planes, strict=True):
        assert sent.shape == arrived.shape
        assert np.abs(sent.astype(int) - arrived).mean() < 3


def test_a_jpeg_keeps_the_values_of_the_planes(yuv_picture: Callable[..., Picture]) -> None:
    """Planes of 16-235 must not be stretched to 0-255 on their way, as a JPEG's usually are."""
    colour = np.full((48, 64, 3), (200, 40, 60), np.uint8)
    sent = yuv_picture(colour, "bt709", False)
    _, picture = arrive(pack_picture(make_frame(sent), SESSION, JpegEncoder(90)))
    assert np.abs(picture.rgb().astype(int) - colour).max() <= 4


@pytest.mark.parametrize("encoder", [None, JpegEncoder(90)], ids=["raw", "jpeg"])
@pytest.mark.parametrize("size", [(64, 48), (65, 49)], ids=["even", "odd"])
def test_rgb_of_a_camera_becomes_planes_of_the_same_colours(encoder: JpegEncoder | None, size: tuple[int, int]) -> None:
    colour = np.full((size[1], size[0], 3), (200, 40, 60), np.uint8)
    _, picture = arrive(pack_picture(make_frame(Picture.from_rgb(colour)), SESSION, encoder))
    assert len(picture.planes) == 3
    assert np.abs(picture.rgb().astype(int) - colour).max() <= 6


def test_one_encoder_and_one_decoder_follow_a_change_of_size() -> None:
    encoder, decoder = JpegEncoder(90), JpegDecoder()
    for size in ((32, 24), (48, 48), (32, 24)):
        frame = make_frame(make_picture(*size))
        said = unpack(pack_picture(frame, SESSION, encoder), "door", decoder)
        assert isinstance(said, tuple)
        assert (said[1].width, said[1].height) == size


@pytest.mark.parametrize(("better", "worse"), [(95, 90), (90, 80), (80, 50), (50, 1)])
def test_less_quality_takes_fewer_bytes(better: int, worse: int) -> None:
    planes = make_picture(320, 240).planes
    sizes = [len(JpegEncoder(quality).encode(planes)) for quality in (better, worse)]  # type: ignore[arg-type]
    assert sizes[0] > sizes[1]


def test_a_loss_arrives_with_its_cause() -> None:
    said = unpack(pack_loss("door", SESSION, "no data for 5 s"), "door", JpegDecoder())
    assert said == LossHeader(1, "door", SESSION, "no data for 5 s")


def test_a_cause_of_any_length_can_be_told() -> None:
    said = unpack(pack_loss("door", SESSION, "x" * 5000), "door", JpegDecoder())
    assert isinstance(said, LossHeader)
    assert len(said.cause) == 300


# What is not allowed


def header_with(**changes: Any) -> bytes:
    values = msgspec.msgpack.decode(packed()[0]) | changes
    return msgspec.msgpack.encode({key: value for key, value in values.items() if value is not ...})


def jpeg_of(pixel_format: str, width: int = 32, height: int = 24) -> bytes:
    codec = av.VideoCodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.thread_count = width, height, pixel_format, 1
    codec.time_base = Fraction(1, 25)
    (packet,) = codec.encode(av.VideoFrame(width, height, pixel_format))
    return bytes(packet)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        pytest.param([], "no header", id="nothing at all"),
        pytest.param([b""], "its header is not allowed", id="an empty part"),
        pytest.param([b"\xc1" * 5000], "more than 4096 bytes", id="a header that is too long"),
        pytest.param([header_with(stream="yard")], "is of stream 'yard', but must be of 'door'", id="another stream"),
        pytest.param([header_with(stream="a/../b")], "its header is not allowed", id="a name that is none"),
        pytest.param([header_with(schema=2)], "its header is not allowed", id="a later schema"),
        pytest.param([header_with(type="order")], "its header is not allowed", id="another kind of message"),
        pytest.param([header_with(seq=...)], "missing required field `seq`", id="a key that is missing"),
        pytest.param([header_with(more=1)], "unknown field `more`", id="a key too many"),
        pytest.param([header_with(seq=-1)], "its header is not allowed", id="a negative seq"),
        pytest.param([header_with(seq=2**60)], "its header is not allowed", id="a seq that no source reaches"),
        pytest.param([header_with(captured_ns=2**63)], "its header is not allowed", id="a time that no clock shows"),
        pytest.param([header_with(time_s=float("nan"))], "time_s is nan", id="a stream time that is not a number"),
        pytest.param([header_with(time_s=1e300)], "time_s is 1e", id="a stream time without end"),
        pytest.param([header_with(width=0)], "its header is not allowed", id="no pixels"),
        pytest.param([header_with(width=16384, height=16384)], "more than 67108864 pixels", id="too many pixels"),
        pytest.param([header_with(matrix="bt470")], "its header is not allowed", id="a matrix that is unknown"),
        pytest.param([header_with()], "has 1 parts, but must have 4", id="no payload"),
        pytest.param([*packed(), b"x"], "has 5 parts, but must have 4", id="a part too many"),
        pytest.param([*packed()[:3], b"x"], "a plane has 1 bytes", id="a plane that is too short"),
        pytest.param([*packed()[:3], b""], "a plane has 0 bytes", id="a plane of nothing"),
        pytest.param([header_with(width=33), *packed()[1:]], "a plane has 768 bytes", id="planes of another size"),
        pytest.param([header_with(encoding="jpeg"), b""], "its JPEG", id="a JPEG of nothing"),
        pytest.param([header_with(encoding="jpeg"), b"\xff\xd8\xff\xd9"], "its JPEG", id="a JPEG without a picture"),
        pytest.param([header_with(encoding="jpeg"), b"hello"], "its JPEG", id="no JPEG"),
        pytest.param(
            [header_with(encoding="jpeg"), jpeg_of("yuvj420p", 64, 48)], "its JPEG", id="a JPEG of another size"
        ),
        pytest.param([header_with(encoding="jpeg"), jpeg_of("yuvj444p")], "yuvj444p picture", id="a JPEG of 4:4:4"),
        pytest.param([*pack_loss("door", 1, "x"), b"x"], "has 2 parts, but must have 1", id="a loss with a payload"),
    ],
)
def test_what_is_no_message_is_refused(parts: list[Buffer], sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        unpack(parts, "door", JpegDecoder())


def test_a_large_jpeg_in_the_place_of_a_small_one_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(MessageError, match="its JPEG cannot be decoded"):
        unpack([header_with(encoding="jpeg"), jpeg_of("yuvj420p", 2000, 2000)], "door", JpegDecoder())


def test_a_decoder_goes_on_after_a_damaged_picture() -> None:
    decoder, good = JpegDecoder(), packed(JpegEncoder(90))
    expected = arrive(good)[1].planes
    for damaged in (b"hello", good[1][:200], good[1][:-300] + bytes(300)):
        with suppress(MessageError):  # a picture with a hole would do
            unpack([good[0], damaged], "door", decoder)
        said = unpack(good, "door", decoder)
        assert isinstance(said, tuple)
        for plane, wanted in zip(said[1].planes, expected, strict=True):
            assert np.array_equal(plane, wanted)


def check_anything(parts: list[Buffer]) -> None:
    """Whatever comes: it is refused, or it is a picture that can be used."""
    try:
        said = unpack(parts, "door", JpegDecoder())
    except MessageError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error)
        return
    if isinstance(said, tuple):
        header, picture = said
        assert picture.planes[0].shape == (header.height, header.width)
        assert picture.rgb().shape == (header.height, header.width, 3)


@given(parts=st.lists(st.binary(max_size=300), max_size=6))
def test_noise_does_no_harm(parts: list[bytes]) -> None:
    check_anything(list(parts))


@given(header=st.dictionaries(st.text(max_size=8), st.integers() | st.text() | st.floats(), max_size=5))
def test_a_header_of_anything_does_no_harm(header: dict[str, Any]) -> None:
    small = {key: value for key, value in header.items() if not isinstance(value, int) or abs(value) < 2**63}
    check_anything([msgspec.msgpack.encode(small)])


WELL_FORMED = {"raw": packed(), "jpeg": packed(JpegEncoder(75))}


@settings(max_examples=300)
@given(data=st.data(), encoding=st.sampled_from(sorted(WELL_FORMED)))
def test_a_message_that_is_damaged_does_no_harm(data: st.DataObject, encoding: str) -> None:
    parts = [bytearray(part) for part in WELL_FORMED[encoding]]
    for _ in range(data.draw(st.integers(1, 4))):
        part = parts[data.draw(st.integers(0, len(parts) - 1))]
        position = data.draw(st.integers(0, max(0, len(part) - 1)))
        if data.draw(st.booleans()):
            part[position : position + 1] = data.draw(st.binary(min_size=1, max_size=3))
        else:
            del part[position:]
    kept = data.draw(st.integers(1, len(parts)))
    check_anything([bytes(part) for part in parts[:kept]])


@settings(max_examples=300)
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "width": st.integers(-1, 20000),
            "height": st.integers(-1, 20000),
            "encoding": st.sampled_from(["raw", "jpeg", "png"]),
            "seq": st.integers(-(2**63), 2**64 - 1),
            "time_s": st.floats() | st.text(),
            "full_range": st.booleans() | st.none(),
        },
    ),
    payload=st.sampled_from(sorted(WELL_FORMED)),
)
def test_a_header_that_lies_does_no_harm(changes: dict[str, Any], payload: str) -> None:
    check_anything([header_with(**changes), *WELL_FORMED[payload][1:]])


# A row of messages


def header_of(seq: int, session: int = SESSION, time_s: float | None = None) -> PictureHeader:
    time_s = seq / 25 if time_s is None else time_s
    return PictureHeader(1, "door", session, seq, SESSION + seq, time_s, 2, 2, "bt601", False, "raw")


@given(seqs=st.sets(st.integers(0, 1000), min_size=1).map(sorted))
def test_what_arrived_and_what_is_missing_are_all_frames_since_the_first(seqs: list[int]) -> None:
    arrivals = Arrivals()
    missing = [arrivals.take(header_of(seq), now_s=float(seq)).missing for seq in seqs]
    assert missing[0] == 0, "the sender may have begun long before"
    assert len(seqs) + sum(missing) == seqs[-1] - seqs[0] + 1


def test_stream_time_is_the_senders() -> None:
    arrivals = Arrivals()
    origins = [arrivals.take(header_of(seq), now_s=100.0 + seq) for seq in (0, 1, 4)]
    assert origins == [
        Origin(SESSION, 0.0, 0),
        Origin(SESSION + 1, 0.04, 0),
        Origin(SESSION + 4, 0.16, 2),
    ]


def test_stream_time_goes_on_when_the_sender_begins_again() -> None:
    """By what passed here meanwhile, or tracks would outlive a pause of any length."""
    arrivals = Arrivals()
    arrivals.take(header_of(250, time_s=10.0), now_s=100.0)
    again = arrivals.take(header_of(3, session=SESSION + 1, time_s=0.12), now_s=107.0)
    assert again.time_s == pytest.approx(17.0)
    assert again.missing == 0, "of another sender's frames none are missing here"
    assert arrivals.take(header_of(4, session=SESSION + 1, time_s=0.16), now_s=107.1).time_s == pytest.approx(17.04)


def test_frames_of_an_outage_are_missing_however_long_it_was() -> None:
    arrivals = Arrivals()
    arrivals.take(header_of(10), now_s=1.0)
    arrivals.silent()
    assert arrivals.take(header_of(900), now_s=40.0).missing == 889


@pytest.mark.parametrize("seq", [10, 9, 0])
def test_a_frame_does_not_come_twice_or_late(seq: int) -> None:
    arrivals = Arrivals()
    arrivals.take(header_of(10), now_s=1.0)
    with pytest.raises(MessageError, match=f"seq is {seq}, but must be more than 10"):
        arrivals.take(header_of(seq), now_s=2.0)


def test_the_sender_that_began_last_is_believed() -> None:
    """Two hosts that send to one port: a mistake, in which the stream must not jump to and fro."""
    arrivals = Arrivals()
    arrivals.take(header_of(10), now_s=1.0)
    arrivals.take(header_of(0, session=SESSION + 1), now_s=1.1)
    with pytest.raises(MessageError, match="another sender, which began later"):
        arrivals.take(header_of(11), now_s=1.2)
    with pytest.raises(MessageError, match="another sender, which began later"):
        arrivals.check(LossHeader(1, "door", SESSION, "gone"))


def test_a_sender_whose_clock_was_set_back_is_believed_after_a_silence() -> None:
    arrivals = Arrivals()
    arrivals.take(header_of(10), now_s=1.0)
    arrivals.silent()
    assert arrivals.take(header_of(0, session=5), now_s=9.0).missing == 0


def test_a_jump_that_no_source_makes_is_another_beginning() -> None:
    arrivals = Arrivals()
    arrivals.take(header_of(0), now_s=1.0)
    assert arrivals.take(header_of(MAX_MISSING + 1), now_s=1.1).missing == MAX_MISSING
    assert arrivals.take(header_of(2**52), now_s=1.2).missing == 0


# What a configuration may say


@pytest.mark.parametrize(
    "values",
    [
        {"source": "zmq+tcp://127.0.0.1:5570"},
        {"source": "zmq+tcp://[::1]:5570"},
        {"source": "zmq+tcp://localhost:5570"},
        {"source": "zmq+tcp://0.0.0.0:5570", "insecure": True},
        {"source": "zmq+tcp://*:5570", "curve_secret_file": "keys/server.key_secret", "clients": "keys/clients"},
        {"source": "0", "forward": "tcp://127.0.0.1:5570"},
        {"source": "0", "forward": "tcp://server:5570", "server_key": "keys/server.key"},
        {"source": "0", "forward": "tcp://10.0.0.2:5570", "insecure": True},
    ],
)
def test_hosts_that_are_allowed(values: dict[str, Any]) -> None:
    check_hosts(StreamSettings(name="door", **values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        pytest.param({"source": "zmq+tcp://0.0.0.0:5570"}, "needs curve_secret_file", id="a port for everybody"),
        pytest.param({"source": "zmq+tcp://eth0:5570"}, "needs curve_secret_file", id="an interface for everybody"),
        pytest.param({"source": "zmq+tcp://127.0.0.1"}, "must be zmq", id="no port"),
        pytest.param({"source": "zmq+tcp://127.0.0.1:0"}, "must be zmq", id="a port that nobody can know"),
        pytest.param({"source": "zmq+tcp://127.0.0.1:*"}, "must be zmq", id="any port"),
        pytest.param({"source": "zmq+tcp://127.0.0.1:70000"}, "must be zmq", id="a port beyond the last"),
        pytest.param({"source": "zmq+ipc://x"}, "must be zmq", id="not between hosts"),
        pytest.param({"source": "0", "forward": "tcp://server:5570"}, "needs server_key", id="a host without its key"),
        pytest.param({"source": "0", "forward": "server:5570"}, "must be tcp://HOST:PORT", id="no scheme"),
        pytest.param({"source": "0", "forward": "tcp://*:5570"}, "must be tcp://HOST:PORT", id="no host"),
        pytest.param({"source": "0", "forward": ""}, "must be tcp://HOST:PORT", id="nothing"),
    ],
)
def test_hosts_that_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_hosts(StreamSettings(name="door", **values))


EDGE = '[[streams]]\nname = "door"\nsource = "0"\nforward = "tcp://127.0.0.1:5570"\n'
YARD = '[[streams]]\nname = "yard"\nsource = "1"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(EDGE + YARD, r"streams\[1\].forward is missing, but must be as in streams\[0\]", id="not all"),
        pytest.param(YARD + EDGE, r"streams\[1\].forward is there, but must be as in streams\[0\]", id="not the first"),
        pytest.param('links = "zmq"\n' + EDGE, 'links is "zmq", but must be "queue"', id="processes for nothing"),
        pytest.param(EDGE + "jpeg_quality = 0\n", "at least 1 and at most 100", id="no quality at all"),
        pytest.param(EDGE + 'encoding = "png"\n', "must be one of 'jpeg', 'raw'", id="an encoding that is unknown"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load(path)
