"""Messages in Frigate's topics, and what blueprints made for Frigate expect of them."""

import json
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from pipeline.settings.schema import StreamSettings
from pipeline.sinks.mqtt.frigate import FrigateTopics
from pipeline.sinks.mqtt.outbox import Outbox
from pipeline.sinks.mqtt.settings import MqttSettings
from tests.pipeline.sinks.mqtt.made_messages import CROP, MOMENT, event, face, frame, health

# What Frigate 0.14's documentation shows of an object.
FIELDS = {
    *("id", "camera", "frame_time", "snapshot", "label", "sub_label", "top_score", "false_positive", "start_time"),
    *("end_time", "score", "box", "area", "ratio", "region", "active", "stationary", "motionless_count"),
    *("position_changes", "current_zones", "entered_zones", "has_clip", "has_snapshot", "attributes"),
    "current_attributes",
}


class Told:
    def __init__(self) -> None:
        self.out = Outbox(1000)
        keys = {"host": "a", "dialect": "frigate", "labels": ["person"]}
        self.topics = FrigateTopics(msgspec.convert(keys, MqttSettings), self.out)

    def __call__(self, *messages: Any, topic: str = "events") -> list[dict[str, Any]]:
        for message in messages:
            self.topics.tell(message)
        items = self.out.take(1000)
        self.out.sent(items)
        return [json.loads(item.payload) for item in items if item.topic == f"frigate/{topic}"]


def test_an_object_begins_changes_and_ends_under_one_id() -> None:
    entered = event("zone", "enter", name="mat", counts={"present": {"person": 1}})
    left = event("zone", "leave", name="mat", counts={"present": {}})
    said = Told()(event(), entered, left, event("object", "ended", best_score=0.95, best_crop=CROP))
    assert [each["type"] for each in said] == ["new", "update", "update", "end"]
    assert len({each[when]["id"] for each in said for when in ("before", "after")}) == 1
    assert all(set(each[when]) == FIELDS for each in said for when in ("before", "after"))
    assert [each["after"]["current_zones"] for each in said] == [[], ["mat"], [], []]
    assert [each["after"]["entered_zones"] for each in said] == [[], ["mat"], ["mat"], ["mat"]]
    assert [each["before"] for each in said[1:]] == [each["after"] for each in said[:-1]]
    last = said[-1]["after"]
    assert last["end_time"] is not None and last["has_snapshot"] and last["top_score"] == 0.95
    assert said[0]["after"]["end_time"] is None and not said[0]["after"]["has_snapshot"]
    assert (last["box"], last["area"], last["ratio"]) == ([10, 20, 30, 60], 800, 0.5)


def test_a_name_is_the_person_s_sub_label_and_stays_when_the_face_is_gone() -> None:
    told = Told()
    named = event("identity", "new", track=50, label="Ada", score=0.7, best_face=face("Ada"))
    gone = event("identity", "ended", track=50, label="Ada", cause="gone", best_face=face("Ada"))
    taken_back = event("identity", "ended", track=50, label="Ada", cause="withdrawn", best_face=face(None))
    said = told(event(), named, gone, event("object", "changed"))
    assert [each["after"]["sub_label"] for each in said] == [None, ["Ada", 0.7], ["Ada", 0.7]]
    assert told.topics and Told()(named, event())[0]["after"]["sub_label"] == ["Ada", 0.7]
    assert Told()(event(), named, taken_back)[-1]["after"]["sub_label"] is None


def test_tracks_of_one_number_in_two_streams_or_runs_have_ids_of_their_own() -> None:
    one, two = Told()(event(), event(stream="yard"))
    (later,) = Told()(event(first_seen="2026-11-24T09:14:07.120Z"))
    assert len({each["after"]["id"] for each in (one, two, later)}) == 3


def test_counts_by_camera_and_by_zone_and_pictures() -> None:
    told = Told()
    told(
        frame("door", "person", "dog"),
        event("zone", "enter", name="mat", counts={"present": {"dog": 1}}),
        event("zone", "enter", stream="yard", name="mat", counts={"present": {"dog": 2}}),
        event("object", "ended", best_crop=CROP),
    )
    state = told.out.state
    assert (state["frigate/door/person"], state["frigate/door/dog"], state["frigate/door/all"]) == (b"1", b"1", b"2")
    assert (state["frigate/mat/dog"], state["frigate/mat/all"]) == (b"3", b"3")
    assert state["frigate/door/person/snapshot"] == CROP.jpeg
    told(health("down", "timed out"))
    assert told.out.state["frigate/door/all"] == b"0"


def test_a_stream_with_other_zones_takes_its_share_of_those_it_had_along() -> None:
    def zoned(stream: str, *zones: str) -> StreamSettings:
        rows = [{"name": zone, "points": [[0, 0], [1, 0], [1, 1]]} for zone in zones]
        return msgspec.convert({"name": stream, "source": "0", "zones": rows}, StreamSettings)

    told = Told()
    for stream in (zoned("door", "mat", "step"), zoned("yard", "mat")):
        told.topics.begin(stream)
        told(event("zone", "enter", stream=stream.name, name="mat", counts={"present": {"dog": 1}}))
    assert told.out.state["frigate/mat/dog"] == b"2"
    told.topics.begin(zoned("door", "lawn"))
    state = told.out.state
    assert (state["frigate/mat/dog"], state["frigate/lawn/all"]) == (b"1", b"0")
    assert not [topic for topic in state if topic.startswith("frigate/step/")]
    told.topics.begin(zoned("yard"))
    assert not [topic for topic in told.out.state if topic.startswith("frigate/mat/")]


def test_a_removed_stream_takes_its_share_of_a_zone_along() -> None:
    told = Told()
    for stream in ("door", "yard"):
        told(event("zone", "enter", stream=stream, name="mat", counts={"present": {"dog": 1}}))
    told.topics.forget("yard")
    assert told.out.state["frigate/mat/dog"] == b"1"
    assert not [topic for topic in told.out.state if topic.startswith("frigate/yard/")]
    told.topics.forget("door")
    assert told.out.state == {}


@pytest.mark.parametrize("kind", ["face", "scene", "line"])
def test_what_frigate_does_not_know_is_no_event_of_it(kind: str) -> None:
    assert Told()(event(kind, name="gate")) == []


def at(seconds: float, message: Any) -> Any:
    moment = (datetime.fromisoformat(MOMENT) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return msgspec.structs.replace(message, captured_at=moment)


def stands(*times: float, x: float = 0.0) -> list[Any]:
    """Frames with a person, track 1, at a place."""
    moved = msgspec.structs.replace(frame("door", "person").objects[0], box=(x, 0.0, x + 20.0, 40.0))
    return [at(each, msgspec.structs.replace(frame("door"), objects=(moved,))) for each in times]


def test_what_does_not_move_for_ten_seconds_is_stationary_until_it_moves() -> None:
    moves = ("stationary", "active", "position_changes", "motionless_count")
    said = Told()(event(), *stands(0, 5, 9.9, 10, 11), *stands(12, x=4.0), *stands(13, x=15.0))
    assert [tuple(each["after"][key] for key in moves) for each in said] == [
        (False, True, 1, 0),
        (True, False, 1, 3),
        (False, True, 2, 0),
    ]
    assert said[-1]["after"]["box"] == [15, 0, 35, 40] and said[1]["before"] == said[0]["after"]


def test_a_review_goes_on_while_something_moves_and_ends_when_nothing_has_for_two_minutes() -> None:
    dog = event(track=2, label="dog")
    named = event("identity", "new", track=50, label="Ada", score=0.7, best_face=face("Ada"))
    entered = event("zone", "enter", name="mat", counts={"present": {"person": 1}})
    gone = at(30, event("object", "ended"))
    said = Told()(dog, event(), entered, named, gone, *(at(each, frame()) for each in (31, 120, 121)), topic="reviews")
    assert [each["type"] for each in said] == ["new", "update", "update", "update", "end"]
    assert len({each[when]["id"] for each in said for when in ("before", "after")}) == 1
    assert [each["after"]["severity"] for each in said] == ["detection", *["alert"] * 4]
    assert [each["before"] for each in said[1:]] == [each["after"] for each in said[:-1]]
    last = said[-1]["after"]
    assert last["end_time"] == last["start_time"], "as of the last that moved"
    events = {each["after"]["id"] for each in Told()(dog, event())}
    assert set(last["data"].pop("detections")) == events
    assert last["data"] == {
        "objects": ["dog", "person-verified"],
        "sub_labels": ["Ada"],
        "zones": ["mat"],
        "audio": [],
    }


def test_a_parked_car_holds_no_review_open_so_that_who_comes_later_begins_one() -> None:
    told = Told()
    parked = [at(each, frame("door", "person")) for each in range(0, 140, 5)]
    said = told(event(), *parked, topic="reviews")
    assert [each["type"] for each in said] == ["new", "end"]
    assert [each["type"] for each in told(at(150, event(track=2)), topic="reviews")] == ["new"]


def test_a_review_ends_with_its_stream() -> None:
    told = Told()
    assert [each["type"] for each in told(event(), health("down", "timed out"), topic="reviews")] == ["new", "end"]
    told(event(track=2))
    told.topics.forget("door")
    assert [each["type"] for each in told(topic="reviews")] == ["end"]


def test_the_conditions_of_a_notification_blueprint_hold() -> None:
    """What SgtBatten's "Frigate Notifications" 0.14 reads of ``frigate/reviews``, and its older one of ``events``."""
    seen = (event(), event("zone", "enter", name="mat", counts={"present": {"person": 1}}))
    for payload in Told()(*seen, topic="reviews"):
        before, after = payload["before"], payload["after"]
        assert payload["type"] in ("new", "update") and after["severity"] == "alert"
        assert after["camera"] == "door" and after["data"]["objects"] == ["person"]
        assert after["data"]["detections"][0] in {each["after"]["id"] for each in Told()(*seen)}
        assert isinstance(after["start_time"], float) and "/" not in after["id"]
        for each in (before, after):
            assert isinstance(each["data"]["zones"], list) and isinstance(each["data"]["sub_labels"], list)
    new, end = Told()(event(), event("object", "ended", best_crop=CROP))
    for payload in (new, end):
        before, after = payload["before"], payload["after"]
        assert payload["type"] in ("new", "update", "end")
        assert after["camera"] == "door" and after["label"] == "person"
        assert isinstance(after["id"], str) and "-" in after["id"] and "/" not in after["id"]
        assert isinstance(after["current_zones"], list) and isinstance(before["entered_zones"], list)
        assert isinstance(after["top_score"], float) and after["has_clip"] is False
        assert before["position_changes"] == after["position_changes"] == 1
        assert before["has_snapshot"] in (True, False) and isinstance(after["start_time"], float)
