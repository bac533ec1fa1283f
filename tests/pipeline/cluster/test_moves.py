"""Streams that are added, changed, removed and moved while a run on several nodes goes on, told without Ray."""

import threading
from collections.abc import Iterator

import msgspec
import pytest

from engines.errors import ConfigError
from pipeline.cluster.control import ClusterControl
from pipeline.cluster.placed import ShardLost
from pipeline.cluster.placement import NodeResources
from pipeline.frames.counters import FrameCounts
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.summary import Summary
from pipeline.settings.schema import Config, StreamSettings
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage
from tests.pipeline.cluster.made_cluster import MadeCluster
from tests.pipeline.made_messages import AT, frame


def health_of(made: MadeCluster, stream: str) -> list[tuple[str, str]]:
    return [(each.state, each.cause) for each in made.of(stream) if isinstance(each, HealthMessage)]


def has_left(made: MadeCluster, stream: str, shard: int, captured: int, published: int, **dropped: int) -> None:
    """A shard tells the end of a stream that it was asked to let go of."""
    counts = {"captured": captured, "published": published, "dropped": dropped}
    message = HealthMessage(stream=stream, at=AT, state="ended", cause="removed", **counts)  # type: ignore[arg-type]
    made.waiting.append((shard, message))


@pytest.fixture
def spread() -> MadeCluster:
    """Both shards are on node a; node b comes, and the yard goes there with an open event; then it falls back."""

    def steps(made: MadeCluster) -> Iterator[None]:
        made.nodes = [NodeResources("a", {"CPU": 4.0})]
        made.frame("yard", 0)
        made.begins("yard", 1)
        made.begins("yard", 2)
        yield
        while len(made.placed) == 2:
            made.nodes = [NodeResources("a", {"CPU": 4.0}), NodeResources("b", {"CPU": 4.0})]
            yield
        (source,) = [shard for shard in made.placed[:2] if shard.names == ["yard"]]
        while not source.removed:
            yield
        assert (made.placed[2].avoided, made.placed[2].resumed) == ({"a"}, {})
        values = {"label": "person", "first_seen": AT, "box": (10.0, 10.0, 20.0, 40.0), "track": 2, "cause": "stopped"}
        end = EventMessage(stream="yard", seq=0, captured_at=AT, event="ended", kind="object", **values)  # type: ignore[arg-type]
        made.waiting.append((1, end))
        has_left(made, "yard", 1, 3, 2, stale=1)
        while not made.placed[2].resumed:
            yield
        while not source.stopped:
            yield
        source.summary = Summary(1.0, {}, backend="made", precision="f32")
        made.waiting.append((2, frame("yard", 3, stale=1)))
        yield
        made.waiting.append((2, message_of_end("yard", 4, 3, stale=1)))
        made.ends("door", 0, 0)
        made.placed[2].summary = Summary(1.0, {}, backend="made", precision="f32")
        while True:
            yield

    return MadeCluster(steps)


def message_of_end(stream: str, captured: int, published: int, **dropped: int) -> HealthMessage:
    counts = {"captured": captured, "published": published, "dropped": dropped}
    return HealthMessage(stream=stream, at=AT, state="ended", cause="end of the file", **counts)  # type: ignore[arg-type]


def test_when_a_node_comes_streams_go_there_once_their_shard_has_let_go_of_them(spread: MadeCluster) -> None:
    summary = spread.run()
    assert len(spread.placed) == 3
    assert spread.placed[2].resumed["yard"] == Resumed(FrameCounts(3, 1, {"stale": 1, "lost": 1}), restarts=1)
    assert health_of(spread, "yard") == [("down", "moved to another shard"), ("ended", "end of the file")]
    assert health_of(spread, "door") == [("ended", "end of the file")], "no other stream notices"
    told = spread.of("yard")
    assert [type(each) for each in told[-4:]] == [EventMessage, HealthMessage, FrameMessage, HealthMessage]
    ends = [each for each in told if isinstance(each, EventMessage) and each.event == "ended"]
    assert [(end.cause, end.track) for end in ends] == [("down", 2), ("down", 1)], "with the shard, not with the stream"
    assert summary.streams["yard"] == FrameCounts(4, 2, {"stale": 1, "lost": 1})


def test_a_stream_whose_shard_is_lost_on_the_way_goes_on_where_it_was_to_go() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        made.nodes = [NodeResources("a", {"CPU": 4.0})]
        yield
        while len(made.placed) == 2:
            made.nodes = [NodeResources("a", {"CPU": 4.0}), NodeResources("b", {"CPU": 4.0})]
            yield
        while not made.placed[1].removed:
            yield
        made.placed[1].failure = ShardLost("the actor died")
        while not made.placed[2].resumed:
            yield
        made.waiting.append((2, message_of_end("yard", 0, 0)))
        made.placed[2].summary = Summary(1.0, {})
        made.ends("door", 0, 0)
        while True:
            yield

    made = MadeCluster(steps)
    made.run()
    assert len(made.placed) == 3, "nothing is placed anew"
    assert made.placed[2].resumed["yard"].restarts == 1


def test_streams_are_added_changed_and_removed() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        run, shed = made.supervisor.moves, StreamSettings(name="shed", source="clip.mp4")
        yield
        run.add(shed)
        with pytest.raises(ConfigError, match="'shed' cannot be added: there is one of this name"):
            run.add(shed)
        assert made.placed[2].names == ["shed"], "the others have as many as they may"
        yield
        made.waiting.append((2, frame("shed", 0)))
        run.remove("yard")
        yield
        assert made.placed[1].removed == ["yard"]
        has_left(made, "yard", 1, 0, 0)
        yield
        run.change(StreamSettings(name="shed", source="other.mp4"))
        yield
        assert made.placed[2].removed == ["shed"]
        has_left(made, "shed", 2, 2, 1)
        yield
        assert made.placed[2].resumed["shed"] == Resumed(FrameCounts(2, 1, {"lost": 1}), base=2, restarts=1)
        made.waiting.append((2, message_of_end("shed", 3, 1, lost=1)))
        made.placed[1].summary = made.placed[2].summary = Summary(1.0, {})
        made.ends("door", 0, 0)
        while True:
            yield

    made = MadeCluster(steps)
    summary = made.run()
    assert [stream.name for stream in made.supervisor.moves.streams()] == ["door", "shed"]
    assert health_of(made, "yard") == [("ended", "removed")]
    assert health_of(made, "shed") == [("down", "changed"), ("ended", "end of the file")]
    assert list(summary.streams) == ["door", "yard", "shed"]
    assert [(stream.name, stream.source) for stream in made.begun] == [("shed", "clip.mp4"), ("shed", "other.mp4")]


def test_a_run_whose_streams_were_all_removed_waits_for_others() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        run = made.supervisor.moves
        yield
        for number, name in enumerate(("door", "yard")):
            run.remove(name)
            yield
            has_left(made, name, number, 0, 0)
            yield
            made.placed[number].summary = Summary(1.0, {})
        for _ in range(5):
            yield
        assert all(shard.stopped for shard in made.placed)
        run.add(StreamSettings(name="yard", source="clip.mp4"))
        yield
        made.waiting.append((2, message_of_end("yard", 0, 0)))
        made.placed[2].summary = Summary(1.0, {})
        while True:
            yield

    made = MadeCluster(steps)
    made.run()
    assert health_of(made, "yard") == [("ended", "removed"), ("ended", "end of the file")]


def test_a_stream_that_its_node_refuses_ends_with_the_cause_and_no_other_does() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        yield
        made.supervisor.moves.add(StreamSettings(name="shed", source="missing.mp4"))
        yield
        made.placed[2].refused = {"shed": "source is 'missing.mp4', but there is no such file"}
        made.placed[2].summary = Summary(1.0, {})
        yield
        yield
        yield from made.end_all("door", "yard")

    made = MadeCluster(steps)
    made.run()
    assert health_of(made, "shed") == [("ended", "source is 'missing.mp4', but there is no such file")]
    assert health_of(made, "door") == [("ended", "end of the file")]


def test_a_shard_that_cannot_begin_ends_what_was_added_for_it_and_nothing_else() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        yield
        made.supervisor.moves.add(StreamSettings(name="shed", source="missing.mp4"))
        made.placed[2].failure = ConfigError("source is 'missing.mp4', but there is no such file")
        yield
        yield
        yield from made.end_all("door", "yard")

    made = MadeCluster(steps)
    made.run()
    assert len(made.placed) == 3
    assert health_of(made, "shed") == [("ended", "source is 'missing.mp4', but there is no such file")]
    assert health_of(made, "door") == [("ended", "end of the file")]


def test_what_others_ask_for_is_done_in_the_thread_of_the_run() -> None:
    asked: list[BaseException | None] = []

    def ask(control: ClusterControl, name: str) -> None:
        try:
            control.remove(name)
            asked.append(None)
        except ConfigError as error:
            asked.append(error)

    def steps(made: MadeCluster) -> Iterator[None]:
        for name in ("yard", "shed"):
            others = threading.Thread(target=ask, args=(control, name))
            others.start()
            while others.is_alive():
                yield
        assert made.placed[1].removed == ["yard"]
        has_left(made, "yard", 1, 0, 0)
        made.placed[1].summary = Summary(1.0, {})
        made.ends("door", 0, 0)
        while True:
            yield

    made = MadeCluster(steps)
    control = ClusterControl(msgspec.convert({"streams": [{"name": "door", "source": "clip.mp4"}]}, Config))
    with control.of(made.supervisor):
        made.run()
    done, refused = asked
    assert done is None and "there is no stream 'shed'" in str(refused)
    with pytest.raises(ConfigError, match="only while a run goes on"):
        control.spread()
    with pytest.raises(ConfigError, match=r"inference\.fps cannot change while"):
        control.tune({"inference.fps": 5})
    control.switch("door", "detect", True)
    with pytest.raises(ConfigError, match="'door': record cannot be switched off while a run on several nodes"):
        control.switch("door", "record", False)
    assert control.is_on("door", "record")
    with pytest.raises(ConfigError, match=r"'yard'\.node is missing"):
        control.add(StreamSettings(name="yard", source="0"))
