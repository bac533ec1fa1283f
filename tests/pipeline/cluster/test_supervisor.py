"""What becomes of the streams of shards that are lost, told without Ray."""

from collections.abc import Iterator

import pytest

from engines.errors import ConfigError, StageError
from pipeline.cluster.placed import ShardLost
from pipeline.frames.counters import FrameCounts
from pipeline.runtime.resuming import Resumed
from pipeline.wire.messages import EventMessage, HealthMessage
from tests.pipeline.cluster.made_cluster import MadeCluster


@pytest.fixture
def lost() -> MadeCluster:
    """The yard's shard falls silent with an open event and frames under way, and its stream goes on elsewhere."""

    def steps(made: MadeCluster) -> Iterator[None]:
        made.frame("door", 0)
        made.frame("yard", 0)
        made.begins("yard", 1)
        made.crosses("yard", 3)
        made.frame("yard", 2, {"stale": 1})
        made.books.know("yard", FrameCounts(captured=6, published=2, dropped={"stale": 1}))
        yield
        made.shard_of("yard").silent = True
        while len(made.placed) == 2:
            yield
        made.frame("yard", 3, {"stale": 1})  # it was only cut off, and speaks again
        yield
        made.frame("yard", 6, {"stale": 1, "crash": 3}, track=1_000_001)
        made.ends("yard", 7, 3, stale=1, crash=3)
        made.ends("door", 1, 1)
        while True:
            yield

    return MadeCluster(steps)


def test_a_silent_shard_is_placed_elsewhere_and_its_books_go_on(lost: MadeCluster) -> None:
    summary = lost.run()
    first, second = lost.placed[1:]
    assert first.killed and second.avoided == {"a"}
    assert second.resumed["yard"] == Resumed(
        FrameCounts(6, 2, {"stale": 1, "crash": 3}),
        base=0,
        lines={"kerb": {"a_to_b": {"person": 3}, "b_to_a": {}}},
        restarts=1,
    )
    assert summary.streams == {"door": FrameCounts(1, 1, {}), "yard": FrameCounts(7, 3, {"stale": 1, "crash": 3})}
    assert (summary.ends["yard"].read, summary.backend) == ("all", "made")


def test_what_was_open_ends_before_the_stream_is_down_and_no_other_stream_notices(lost: MadeCluster) -> None:
    lost.run()
    told = lost.of("yard")
    down = next(place for place, each in enumerate(told) if isinstance(each, HealthMessage))
    end, health = told[down - 1 : down + 1]
    assert isinstance(end, EventMessage) and isinstance(health, HealthMessage)
    assert (end.event, end.cause, end.track, end.seq) == ("ended", "crash", 1, 2)
    assert (health.state, health.captured, health.published) == ("down", 6, 2)
    assert health.cause == "its shard was lost: its node was not heard of for 4.0 s"
    assert [each.state for each in lost.of("door") if isinstance(each, HealthMessage)] == ["ended"]
    assert not lost.placed[0].avoided and len([shard for shard in lost.placed if "door" in shard.names]) == 1


def test_a_shard_whose_address_refuses_is_lost_sooner() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        yield
        made.shard_of("yard").silent = made.shard_of("yard").unreachable = True
        began_s = made.now_s
        while len(made.placed) == 2:
            yield
        assert made.now_s - began_s <= 3.0
        yield from made.end_all("yard", "door")

    MadeCluster(steps).run()


def test_a_process_that_died_may_be_started_on_its_node_again() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        made.shard_of("yard").failure = ShardLost("the actor died")
        yield
        assert made.shard_of("yard").avoided == set()
        yield from made.end_all("yard", "door")

    made = MadeCluster(steps)
    made.run()
    assert len(made.placed) == 3


def test_one_that_is_lost_again_and_again_ends_the_run() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        while True:
            made.shard_of("yard").failure = ShardLost("the actor died")
            yield

    made = MadeCluster(steps)
    with pytest.raises(StageError, match="streams yard were lost more than 5 times in a minute: the actor died"):
        made.run()
    assert all(made.books.is_over(name) for name in ("door", "yard"))
    downs = [each for each in made.of("yard") if isinstance(each, HealthMessage) and each.state == "down"]
    assert len(downs) == 1, "that it is gone is told once"


def test_a_stream_that_has_ended_is_not_placed_again() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        made.ends("yard", 0, 0)
        made.shard_of("yard").summary = None
        yield
        made.shard_of("yard").failure = ShardLost("the actor died")
        made.ends("door", 0, 0)
        while True:
            yield

    made = MadeCluster(steps)
    made.run()
    assert len(made.placed) == 2


def test_messages_that_did_not_arrive_are_counted_as_lost() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        made.frame("door", 0)
        made.ends("door", 3, 3)
        made.ends("yard", 0, 0)
        while True:
            yield

    made = MadeCluster(steps)
    summary = made.run()
    assert summary.streams["door"] == FrameCounts(3, 1, {"lost": 2})
    last = made.of("door")[-1]
    assert isinstance(last, HealthMessage) and (last.published, last.dropped) == (1, {"lost": 2})


def test_what_ended_in_a_message_that_did_not_arrive_ends_with_its_stream() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        made.begins("door", 1)
        yield from made.end_all("door", "yard")

    made = MadeCluster(steps)
    made.run()
    end, health = made.of("door")[-2:]
    assert isinstance(end, EventMessage) and isinstance(health, HealthMessage)
    assert (end.event, end.cause, end.track, health.state) == ("ended", "stopped", 1, "ended")


def test_what_hangs_when_a_run_is_stopped_is_killed_and_its_frames_are_counted() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        made.frame("door", 0)
        made.begins("door", 1)
        made.books.know("door", FrameCounts(4, 1, {}))
        made.ends("yard", 0, 0)
        yield
        made.stop.set()
        while True:
            yield

    made = MadeCluster(steps)
    summary = made.run()
    assert made.shard_of("door").stopped and made.shard_of("door").killed
    assert summary.streams["door"] == FrameCounts(4, 1, {"shutdown": 3})
    end, health = made.of("door")[-2:]
    assert isinstance(end, EventMessage) and isinstance(health, HealthMessage)
    assert (end.event, end.cause, health.state) == ("ended", "stopped", "ended")


def test_what_cannot_run_is_refused_before_anything_has_run() -> None:
    made = MadeCluster(lambda made: iter(()))
    made.placed[1].failure = ConfigError("streams[1].source is 'clip.mp4', but there is no such file")
    with pytest.raises(ConfigError, match="no such file"):
        made.supervisor.open()
