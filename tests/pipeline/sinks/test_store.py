"""The sink that keeps events: what it is told is there, and it never fills the disk."""

import time
from pathlib import Path

import msgspec
import pytest

from engines.errors import ConfigError, StoreError
from pipeline.sinks.base import SinkThread
from pipeline.sinks.store import StoreSettings, StoreSink, stored_form
from pipeline.store import EventStore
from pipeline.wire.messages import (
    CropMessage,
    EventMessage,
    FaceMessage,
    HealthMessage,
    IdentityMessage,
    decode,
)

MOMENT = "2026-11-23T09:14:07.120Z"
AT_NS = 1_795_425_247_120_000_000
BOX = (1.0, 2.0, 30.0, 40.0)
NEW = EventMessage(
    stream="door", seq=3, captured_at=MOMENT, event="new", kind="object", track=7, label="person", score=0.8, box=BOX
)


def settings(tmp_path: Path, **keys: object) -> StoreSettings:
    return msgspec.convert({"directory": str(tmp_path / "events"), "min_free_gb": 0.0, **keys}, StoreSettings)


def test_events_are_kept_whole_and_their_picture_apart(tmp_path: Path) -> None:
    crop = CropMessage(MOMENT, BOX, b"jpeg")
    with_crop = msgspec.structs.replace(NEW, event="ended", score=None, best_score=0.95, best_crop=crop)
    thread = SinkThread("store", StoreSink(settings(tmp_path)), 10)
    for message in (NEW, HealthMessage(stream="door", at=MOMENT, state="up", cause="open"), with_crop):
        thread.send(message)
    thread.finish()
    assert thread.join(time.monotonic() + 30) and thread.counts.lost == {}
    with EventStore(tmp_path / "events") as store:
        ended, new = store.page().events
        assert decode(bytes(new.body)) == NEW
        assert (new.at_ns, new.has_snapshot, ended.score) == (AT_NS, False, 0.95)
        assert store.snapshot(ended.id) == b"jpeg" and b"jpeg" not in bytes(ended.body)


@pytest.mark.parametrize(
    ("message", "person", "place"),
    [
        (NEW, None, None),
        (msgspec.structs.replace(NEW, kind="identity", label="Ada"), "Ada", None),
        (
            msgspec.structs.replace(
                NEW, kind="face", best_face=FaceMessage(7, None, 0.9, BOX, (), IdentityMessage("Ada", 0.7))
            ),
            "Ada",
            None,
        ),
        (msgspec.structs.replace(NEW, kind="face", best_face=FaceMessage(7, None, 0.9, BOX, (), None)), None, None),
        (msgspec.structs.replace(NEW, kind="zone", event="enter", name="gate"), None, "gate"),
        (msgspec.structs.replace(NEW, kind="face", event="changed", name="mask"), None, None),
    ],
    ids=["an object", "a name", "a known face", "an unknown face", "a zone", "a task of faces"],
)
def test_whom_and_where_an_event_is_about(message: EventMessage, person: str | None, place: str | None) -> None:
    stored = stored_form(message)
    assert (stored.person, stored.place) == (person, place)


def test_a_disk_without_room_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"min_free_gb is 1e\+09, but only .* GB are free where"):
        StoreSink(settings(tmp_path, min_free_gb=1e9))


def test_a_place_where_no_store_can_be(tmp_path: Path) -> None:
    (tmp_path / "events").touch()
    with pytest.raises(ConfigError, match=r"directory is .*cannot be made"):
        StoreSink(settings(tmp_path))


def test_a_disk_that_fills_up_loses_events_of_this_sink_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = StoreSink(settings(tmp_path, min_free_gb=1.0))
    monkeypatch.setattr(EventStore, "free", lambda _: 0)
    with pytest.raises(StoreError, match="less than min_free_gb = 1 GB of the disk are free"):
        sink.send(NEW)
    monkeypatch.setattr(EventStore, "free", lambda _: 2 * 10**9)
    sink.send(NEW)
    sink.close()
    with EventStore(tmp_path / "events") as store:
        assert store.count() == 1
