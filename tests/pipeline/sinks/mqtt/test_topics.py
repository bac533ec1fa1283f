"""Messages in Trunkline's own topics, and what of them has to be sent."""

from typing import Any

import msgspec
import pytest

from engines.errors import ConfigError
from pipeline.settings.schema import StreamSettings, ZoneSettings
from pipeline.sinks.mqtt.outbox import Outbox
from pipeline.sinks.mqtt.settings import MqttSettings, tls_context
from pipeline.sinks.mqtt.topics import OwnTopics
from tests.pipeline.sinks.mqtt.made_messages import CROP, MOMENT, event, face, frame, health

CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
DOOR = StreamSettings(name="door", source="0", zones=(ZoneSettings(name="mat", points=CORNERS),))


def made(**keys: Any) -> MqttSettings:
    return msgspec.convert({"host": "127.0.0.1", "labels": ["person"], **keys}, MqttSettings)


class Told:
    """The topics of some messages."""

    def __init__(self, **keys: Any) -> None:
        self.out = Outbox(100)
        self.topics = OwnTopics(made(**keys), self.out)

    def __call__(self, *messages: Any) -> dict[str, Any]:
        for message in messages:
            self.topics.tell(message)
        return {
            topic: value if "/snapshot/" in topic else msgspec.json.decode(value)
            for topic, value in self.out.state.items()
        }


def test_a_stream_of_the_configuration_has_its_state_before_its_first_message() -> None:
    told = Told()
    told.topics.begin(DOOR)
    assert told() == {
        "trunkline/door/count/person": 0,
        "trunkline/door/people": {"names": [], "unknown": 0},
        "trunkline/door/scene": {"label": None},
        "trunkline/door/zone/mat": {"total": 0, "present": {}},
    }


def test_a_stream_with_other_zones_and_lines_has_lost_those_it_had() -> None:
    told = Told()
    told.topics.begin(DOOR)
    state = told(
        event("zone", "enter", name="mat", counts={"present": {"person": 1}}),
        event("line", "cross", name="gate", counts={"a_to_b": {"person": 1}, "b_to_a": {}}),
    )
    assert {"trunkline/door/zone/mat", "trunkline/door/line/gate"} <= set(state)
    told.topics.begin(StreamSettings(name="door", source="0", zones=(ZoneSettings(name="step", points=CORNERS),)))
    state = told()
    assert [topic for topic in state if "/zone/" in topic or "/line/" in topic] == ["trunkline/door/zone/step"]
    assert state["trunkline/door/zone/step"] == {"total": 0, "present": {}}


def test_counts_follow_the_frames_and_go_back_to_nothing() -> None:
    told = Told()
    assert told(frame("door", "person", "zebra", "zebra"))["trunkline/door/count/zebra"] == 2
    assert told(frame("door", "person"))["trunkline/door/count/zebra"] == 0
    state = told(health("down", "timed out"))
    assert state["trunkline/door/count/person"] == 0
    assert (state["trunkline/door/health"]["state"], state["trunkline/door/health"]["cause"]) == ("down", "timed out")


def test_who_is_there_and_who_was_last() -> None:
    state = Told()(
        frame("door", "person", "person", names=("Bob", None), scene="street"),
        event("identity", "new", label="Bob", best_face=face("Bob")),
        event("identity", "ended", label="Bob"),
        frame("door", names=()),
    )
    assert state["trunkline/door/people"] == {"names": [], "unknown": 0}
    assert state["trunkline/door/last_person"] == {"name": "Bob", "at": MOMENT}
    assert state["trunkline/door/scene"] == {"label": None}


def test_zones_lines_and_pictures_come_from_events() -> None:
    told = Told()
    state = told(
        event("zone", "enter", name="mat", label="dog", counts={"present": {"car": 1, "person": 2}}, best_crop=CROP),
        event("line", "cross", name="gate", counts={"a_to_b": {"person": 1}, "b_to_a": {}}),
        event("object", "ended", label="traffic/light+#", best_crop=CROP),
        event("face", "ended", best_crop=CROP),
    )
    assert state["trunkline/door/zone/mat"] == {"total": 3, "present": {"car": 1, "person": 2}}
    assert state["trunkline/door/line/gate"] == {"a_to_b": {"person": 1}, "b_to_a": {}}
    assert state["trunkline/door/snapshot/traffic_light__"] == state["trunkline/door/snapshot/face"] == CROP.jpeg
    assert state["trunkline/door/snapshot/dog"] == CROP.jpeg
    assert b'best_crop":null' in told.out.take(9)[2].payload


def test_without_snapshots_no_picture_is_told() -> None:
    assert not [topic for topic in Told(snapshots=False)(event(best_crop=CROP)) if "snapshot" in topic]


def test_a_value_that_stays_the_same_is_sent_once_and_the_last_of_many() -> None:
    out = Outbox(10)
    for value in ("1", "2", "2"):
        out.set("a", value)
    (item,) = out.take(10)
    assert (item.payload, item.retained) == (b"2", True)
    out.sent([item])
    out.set("a", "2")
    assert out.take(10) == []
    out.again()
    assert [item.payload for item in out.take(10)] == [b"2"]


def test_events_wait_in_order_and_the_oldest_are_lost_beyond_the_room() -> None:
    out = Outbox(3)
    for number in range(5):
        out.say("event", str(number))
    first = out.take(2)
    assert [item.payload for item in first] == [b"2", b"3"] and out.lost == {"unsent": 2}
    assert out.take(2) == first, "what was not acknowledged is sent again"
    out.sent(first)
    assert [item.payload for item in out.take(2)] == [b"4"]
    out.give_up()
    assert out.lost == {"unsent": 2, "shutdown": 1}


def test_state_does_not_wait_behind_a_long_queue_of_events_nor_they_behind_it() -> None:
    out = Outbox(1000)
    for number in range(500):
        out.say("event", str(number))
        out.set(f"state/{number}", "1")
    items = out.take(20)
    assert [item.retained for item in items] == [False] * 10 + [True] * 10
    few = Outbox(10)
    few.say("event", "1")
    few.set("state", "1")
    assert len(few.take(20)) == 2


def test_what_is_cleared_is_told_and_then_forgotten() -> None:
    out = Outbox(3)
    for topic in ("a/x", "a/y/z", "ab"):
        out.set(topic, "1")
    out.clear("a")
    items = out.take(10)
    assert {item.topic: item.payload for item in items} == {"a/x": b"", "a/y/z": b"", "ab": b"1"}
    out.sent(items)
    out.again()
    assert [item.topic for item in out.take(10)] == ["ab"], "a thousand removed streams leave nothing here"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"password": "pw"}, "password is there, but user is not"),
        ({"host": "broker.lan", "user": "a", "password": "pw"}, r"host is 'broker.lan', which would get the password"),
        ({"cert_file": "a.pem"}, "cert_file is there, but tls is false"),
        ({"tls": True, "key_file": "a.key"}, "key_file is there, but cert_file is not"),
        ({"tls": True, "ca_file": "/none.pem"}, "ca_file is '/none.pem', which cannot be used: No such file"),
        (
            {"tls": True, "cert_file": "/none.pem"},
            "cert_file is '/none.pem' and key_file is None, which cannot be used",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tls_context(made(**keys))


@pytest.mark.parametrize("prefix", ["a/#", "+", "/a", "a/", "", "$SYS", "a\0b"])
def test_a_prefix_is_a_topic(prefix: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        made(prefix=prefix)
    assert made(prefix="home/cameras").root == "home/cameras"
