"""Which events a webhook tells."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from pipeline.sinks.webhook.matching import Filter
from pipeline.sinks.webhook.settings import WebhookSettings
from pipeline.wire.messages import Message
from tests.pipeline.sinks.mqtt.made_messages import event, face, frame, health

NOON = datetime(2026, 11, 23, 12, 0)


def made(**keys: Any) -> Filter:
    return Filter(msgspec.convert({"url": "https://hooks.example.org", "spool": "spool", **keys}, WebhookSettings))


def told(chosen: Filter, *messages: Message) -> list[bool]:
    return [chosen.takes(message, NOON, float(second)) for second, message in enumerate(messages)]


def test_frames_and_health_are_never_told() -> None:
    assert told(made(), frame("door", "person"), health(), event()) == [False, False, True]


@pytest.mark.parametrize(
    ("keys", "fits", "other"),
    [
        ({"streams": ["door"]}, {}, {"stream": "yard"}),
        ({"kinds": ["object"]}, {}, {"kind": "scene"}),
        ({"events": ["ended"]}, {"event": "ended"}, {"event": "new"}),
        ({"labels": ["person"]}, {}, {"label": "dog"}),
        ({"zones": ["mat"]}, {"kind": "zone", "name": "mat"}, {"kind": "zone", "name": "path"}),
        ({"zones": ["mat"]}, {"kind": "line", "name": "mat"}, {"kind": "face", "name": "mat"}),
        ({"min_score": 0.8}, {"score": 0.8}, {"score": 0.79}),
        ({"min_score": 0.8}, {"score": None, "best_score": 0.8}, {"score": None}),
    ],
)
def test_each_key_lets_its_own_through(keys: dict[str, Any], fits: dict[str, Any], other: dict[str, Any]) -> None:
    chosen = made(**keys)
    assert told(chosen, event(**{**fits}), event(**{**other})) == [True, False]


def test_people_are_known_by_the_faces_they_showed_in_earlier_frames() -> None:
    ended = event("object", "ended", track=1)
    stranger, known = frame("door", "person", names=(None,)), frame("door", "person", names=("Ada",))
    assert told(made(names=["Ada"]), ended, stranger, ended, known, ended, stranger, ended) == [
        *(False, False, False, False, True, False, True)
    ], "who was known stays known while the face is turned away"
    assert told(made(household=["Ada"]), ended, known, ended, event(track=9)) == [True, False, False, True]
    assert told(made(face="unknown"), ended, stranger, ended, known, ended) == [False, False, True, False, False]
    assert told(made(face="known"), stranger, ended, known, ended) == [False, False, False, True]


def test_the_name_of_one_stream_is_not_that_of_another() -> None:
    known = frame("door", "person", names=("Ada",))
    assert told(made(household=["Ada"]), known, event(stream="yard", track=1)) == [False, True]


def test_an_identity_is_its_own_name_and_its_face_s_person_s() -> None:
    named = event("identity", "new", track=50, label="Ada", best_face=face("Ada"))
    assert told(made(names=["Ada"]), named, event("zone", "enter", track=1)) == [True, True]
    assert told(made(household=["Ada"]), named, event("zone", "enter", track=1)) == [False, False]


@pytest.mark.parametrize(
    ("hours", "hour", "takes"),
    [
        (["08:00-12:00"], "11:59", True),
        (["08:00-12:00"], "12:00", False),
        (["22:00-06:00"], "23:00", True),
        (["22:00-06:00"], "05:59", True),
        (["22:00-06:00"], "06:00", False),
        (["22:00-06:00", "12:00-13:00"], "12:30", True),
    ],
)
def test_hours_may_go_over_midnight(hours: list[str], hour: str, takes: bool) -> None:
    now = datetime.fromisoformat(f"2026-11-23T{hour}")
    assert made(hours=hours).takes(event(), now, 0.0) is takes


def test_no_more_often_than_is_for_each_stream_kind_label_and_zone() -> None:
    chosen = made(every_s=10.0)
    dog, yard = event(label="dog"), event(stream="yard")
    assert [chosen.takes(each, NOON, 0.0) for each in (event(), event(), dog, yard)] == [True, False, True, True]
    assert [chosen.takes(event(), NOON, at) for at in (9.9, 10.0, 10.1, 19.9, 20.0)] == [
        False,
        True,
        False,
        False,
        True,
    ]
