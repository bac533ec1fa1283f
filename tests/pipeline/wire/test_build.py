from pipeline.frames.events import Event
from pipeline.wire.build import event_message

NOON_NS = 1_795_435_200 * 10**9
HOUR_NS = 3600 * 10**9


def test_what_ended_was_seen_last_after_it_was_seen_first_though_the_clock_was_set_back() -> None:
    times = {"at_ns": NOON_NS - HOUR_NS, "first_ns": NOON_NS, "last_ns": NOON_NS - HOUR_NS}
    message = event_message(Event(stream="door", seq=9, event="ended", kind="object", track=1, duration_s=4.5, **times))
    assert (message.first_seen, message.last_seen) == ("2026-11-23T12:00:00.000Z", "2026-11-23T12:00:04.500Z")
