"""Kinds of place and day or night in messages."""

import dataclasses

import msgspec
import numpy as np
import pytest

from engines.spec import EntrySpec, ModelSpec, NetworkSettings, SceneGroup
from pipeline.wire.build import to_message
from pipeline.wire.messages import Encoding, FrameMessage, decode, encode
from tests.pipeline.made_results import OBJECTS, make_result

ENTRY = EntrySpec("x.onnx", "0", 32, 32, {})
SCENES = ("bar", "cat", "yard")
GROUPS = (
    SceneGroup("restaurant", "indoors", ("bar",)),
    SceneGroup("yard", "outdoors", ("yard",)),
    SceneGroup("none of these", None, ("cat",)),
)
SPEC = ModelSpec(
    format=1, name="made", frame=ENTRY, face=None, objects=OBJECTS, scenes=SCENES, network=NetworkSettings()
)
GREY = np.full((48, 64, 3), 128, np.uint8)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_a_kind_of_place_says_where_it_is_and_the_frame_whether_it_is_day(encoding: Encoding) -> None:
    spec = msgspec.structs.replace(SPEC, scene_groups=GROUPS)
    result = dataclasses.replace(
        make_result(GREY, scene_label=1), scene=np.array([0.2, 0.6, 0.2], np.float32), light="night"
    )
    message = decode(encode(to_message(result, spec, {}), encoding))
    assert isinstance(message, FrameMessage)
    assert message.light == "night"
    assert [(each.label, each.score, each.where) for each in message.scene] == [
        ("yard", 0.6, "outdoors"),
        ("restaurant", 0.2, "indoors"),
        ("none of these", 0.2, msgspec.UNSET),
    ]


def test_a_model_without_kinds_of_place_sends_what_it_did() -> None:
    result = dataclasses.replace(make_result(GREY, scene_label=2), scene=np.array([0.0, 0.1, 0.9], np.float32))
    body = encode(to_message(result, SPEC, {}), "json")
    assert b"where" not in body and b"light" not in body
    assert b'"scene":[{"label":"yard","score":0.9}' in body
