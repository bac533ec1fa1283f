"""What is encoded comes back the same; what is not of the schema is refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import MessageError
from pipeline.frames.clock import timestamp
from pipeline.wire.messages import (
    CropMessage,
    Encoding,
    EventMessage,
    FaceMessage,
    FrameMessage,
    HealthMessage,
    IdentityMessage,
    Message,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
    decode,
    encode,
    json_schema,
    topic,
)

SCHEMA_FILE = Path(__file__).parents[3] / "docs" / "messages.schema.json"

integers = st.integers(min_value=0, max_value=2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(max_size=20)
counts = st.dictionaries(text, integers, max_size=3)
boxes = st.tuples(numbers, numbers, numbers, numbers)
faces = st.builds(
    FaceMessage,
    track=integers,
    object=st.none() | integers,
    score=numbers,
    box=boxes,
    landmarks=st.lists(st.tuples(numbers, numbers), max_size=5).map(tuple),
    identity=st.none() | st.builds(IdentityMessage, name=text, score=numbers),
)
frames = st.builds(
    FrameMessage,
    schema=st.just(1),
    stream=text,
    seq=integers,
    captured_at=text,
    size=st.tuples(integers, integers),
    objects=st.lists(st.builds(ObjectMessage, track=integers, label=text, score=numbers, box=boxes), max_size=3).map(
        tuple
    ),
    faces=st.lists(faces, max_size=2).map(tuple),
    scene=st.lists(st.builds(SceneMessage, label=text, score=numbers), max_size=2).map(tuple),
    timings_ms=st.builds(TimingsMessage, queue=numbers, infer=numbers, post=numbers, total=numbers),
    dropped=counts,
)
events = st.builds(
    EventMessage,
    schema=st.just(1),
    stream=text,
    seq=integers,
    captured_at=text,
    event=st.sampled_from(["new", "changed", "ended", "enter", "leave", "dwell", "cross"]),
    kind=st.sampled_from(["object", "face", "identity", "scene", "zone", "line"]),
    track=st.none() | integers,
    label=st.none() | text,
    previous=st.none() | text,
    score=st.none() | numbers,
    box=st.none() | boxes,
    best_face=st.none() | faces,
    first_seen=st.none() | text,
    last_seen=st.none() | text,
    duration_s=st.none() | numbers,
    best_score=st.none() | numbers,
    path=st.none() | st.lists(st.tuples(numbers, numbers, numbers), max_size=3).map(tuple),
    best_crop=st.none() | st.builds(CropMessage, captured_at=text, box=boxes, jpeg=st.binary(max_size=20)),
    cause=st.none() | st.sampled_from(["left", "gone", "withdrawn", "cut", "down", "stopped", "crash"]),
    name=st.none() | text,
    direction=st.none() | st.sampled_from(["a_to_b", "b_to_a"]),
    counts=st.none() | st.dictionaries(text, counts, max_size=2),
)
health = st.builds(
    HealthMessage,
    schema=st.just(1),
    stream=text,
    at=text,
    cause=text,
    captured=integers,
    published=integers,
    dropped=counts,
)
encodings = st.sampled_from(["json", "msgpack"])

UP = HealthMessage(stream="door", at="2026-11-23T09:14:07.120Z", state="up", cause="opened")


@given(message=frames | events | health, encoding=encodings)
def test_a_message_comes_back_as_it_went(message: Message, encoding: Encoding) -> None:
    assert decode(encode(message, encoding)) == message


@given(message=frames | events | health, encoding=encodings, cut=st.integers(min_value=1))
def test_a_message_cut_short_is_refused(message: Message, encoding: Encoding, cut: int) -> None:
    body = encode(message, encoding)
    with pytest.raises(MessageError):
        decode(body[: -1 - cut % len(body)])


@given(st.binary())
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        decode(body)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_the_type_comes_first_so_that_people_see_it(encoding: Encoding) -> None:
    names = list((json.loads if encoding == "json" else msgspec.msgpack.decode)(encode(UP, encoding)))
    assert names[:3] == ["type", "schema", "stream"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        pytest.param(b"", "begins with b''", id="an empty body"),
        pytest.param(b"[1]", "begins with b'['", id="JSON, but no object"),
        pytest.param(b" {}", "begins with b' '", id="a space first"),
        pytest.param(b'{"type": "frame"}', "missing required field `stream`", id="a frame without anything"),
        pytest.param(b'{"type": "news"}', "Invalid value 'news' - at `$.type`", id="an unknown type"),
        pytest.param(b"{}", "missing required field `type`", id="no type"),
        pytest.param(encode(UP, "json").replace(b'"schema":1', b'"schema":2'), "`$.schema`", id="a later schema"),
        pytest.param(encode(UP, "json") + b"x", "malformed", id="something behind the message"),
    ],
)
def test_what_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(body)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_a_field_that_came_later_is_passed_over(encoding: Encoding) -> None:
    newer: dict[str, Any] = msgspec.to_builtins(UP) | {"mood": "good"}
    body = json.dumps(newer).encode() if encoding == "json" else msgspec.msgpack.encode(newer)
    assert decode(body) == UP


def test_a_topic_is_type_and_stream() -> None:
    assert topic(UP) == b"health/door"


def test_a_timestamp_is_cut_to_milliseconds() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_795_425_247_120_999_999) == "2026-11-23T09:14:07.120Z"


def test_the_schema_in_the_documentation_is_fresh() -> None:
    stored = json.loads(SCHEMA_FILE.read_text(), object_hook=_in_order)
    fresh = json.loads(json.dumps(json_schema()), object_hook=_in_order)
    assert stored == fresh, "run `python -m pipeline.wire docs/messages.schema.json`"


def _in_order(part: dict[str, Any]) -> dict[str, Any]:
    """Sort alternatives, whose order differs between versions of msgspec and says nothing."""
    return part | {"anyOf": sorted(part["anyOf"], key=str)} if "anyOf" in part else part
