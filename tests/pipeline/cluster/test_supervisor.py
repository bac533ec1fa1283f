"""What becomes of the streams of shards that are lost, told without Ray."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator

import msgspec
import pytest

from engines.errors import ConfigError, StageError
from pipeline.cluster.control import ClusterControl
from pipeline.cluster.placement import NodeResources, shards_of
from pipeline.cluster.shard import OpenedShard, ShardReport
from pipeline.cluster.stream_books import StreamBooks
from pipeline.cluster.supervisor import ShardLost, ShardSupervisor
from pipeline.frames.counters import FrameCounts
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.summary import Summary
from pipeline.settings.schema import Config, StreamSettings
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage, Message, ObjectMessage
from tests.pipeline.made_messages import AT, frame


class MadeShard:
    """A shard that says and answers what the test makes it."""

    def __init__(self, streams: tuple[StreamSettings, ...], avoided: Collection[str]) -> None:
        self.names = [stream.name for stream in streams]
        self.avoided = set(avoided)
        self.resumed: dict[str, Resumed] = {}
        self.node = "a"
        self.failure: Exception | None = None
        self.silent = self.unreachable = self.stopped = self.killed = False
        self.summary: Summary | None = None
        self.removed: list[str] = []
        self.refused: dict[str, str] = {}

    def opened(self) -> OpenedShard | None:
        if self.failure is not None:
            raise self.failure
        return OpenedShard("tcp://nowhere:1", "key", self.node)

    def report(self) -> ShardReport | None:
        if self.failure is not None:
            raise self.failure
        return None if self.silent else ShardReport({}, self.summary, self.refused)

    def add(self, settings: StreamSettings, resumed: Resumed) -> None:
        self.resumed[settings.name] = resumed

    def remove(self, name: str) -> None:
        self.removed.append(name)

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.killed = True


class MadeCluster:
    """One supervised run: two shards of one stream each; the clock goes on by a second at each look."""

    def __init__(self, steps: Callable[["MadeCluster"], Iterator[None]]) -> None:
        self.now_s = 0.0
        self.placed: list[MadeShard] = []
        self.told: list[Message] = []
        self.waiting: deque[tuple[int, Message]] = deque()
        self.heard: dict[int, bool] = {}
        self.nodes: list[NodeResources] = []
        self.stop = threading.Event()
        self._steps = steps(self)
        rows = [{"name": name, "source": "clip.mp4"} for name in ("door", "yard")]
        config = msgspec.convert({"streams": rows, "ray": {"streams_per_shard": 1, "timeout_s": 3.0}}, Config)
        self.books = StreamBooks(("door", "yard"), self.told.append, spare=4)
        self.supervisor = ShardSupervisor(
            config,
            shards_of(config),
            self._place,
            self,
            self.books,
            self.stop,
            lambda: self.nodes,
            clock=lambda: self.now_s,
        )

    def _place(self, streams: tuple[StreamSettings, ...], avoided: Collection[str]) -> MadeShard:
        self.placed.append(MadeShard(streams, avoided))
        return self.placed[-1]

    def connect(self, shard: int, opened: OpenedShard) -> None:
        self.heard[shard] = True

    def disconnect(self, shard: int) -> None:
        self.heard[shard] = False

    def receive(self, timeout_s: float) -> Iterator[tuple[int, Message]]:
        self.now_s += 1.0
        next(self._steps)
        while self.waiting:
            number, message = self.waiting.popleft()
            if self.heard[number]:
                yield number, message

    def run(self) -> Summary:
        assert self.supervisor.open()
        try:
            self.supervisor.run()
        finally:
            self.supervisor.close()
        return self.supervisor.summary({})

    def frame(self, stream: str, seq: int, dropped: dict[str, int] | None = None, track: int = 1) -> None:
        seen = ObjectMessage(track, "person", 0.9, (10.0, 10.0, 20.0, 40.0))
        self._say(frame(stream, seq, seen, **dropped or {}))

    def begins(self, stream: str, track: int) -> None:
        box = (10.0, 10.0, 20.0, 40.0)
        values = {"label": "person", "first_seen": AT, "box": box, "track": track}
        self._say(EventMessage(stream=stream, seq=0, captured_at=AT, event="new", kind="object", **values))  # type: ignore[arg-type]

    def crosses(self, stream: str, count: int) -> None:
        counts = {"a_to_b": {"person": count}, "b_to_a": {}}
        values = {"track": 1, "label": "person", "name": "kerb", "direction": "a_to_b", "counts": counts}
        self._say(EventMessage(stream=stream, seq=0, captured_at=AT, event="cross", kind="line", **values))  # type: ignore[arg-type]

    def ends(self, stream: str, captured: int, published: int, **dropped: int) -> None:
        counts = {"captured": captured, "published": published, "dropped": dropped}
        values = {"state": "ended", "cause": "end of the file", "read": "all"}
        self._say(HealthMessage(stream=stream, at=AT, **values, **counts))  # type: ignore[arg-type]
        summary = Summary(1.0, {stream: FrameCounts(captured, published, dropped)}, backend="made", precision="f32")
        self.shard_of(stream).summary = summary

    def shard_of(self, stream: str) -> MadeShard:
        return [shard for shard in self.placed if stream in shard.names][-1]

    def _say(self, message: Message) -> None:
        self.waiting.append((0 if message.stream == "door" else 1, message))

    def of(self, stream: str) -> list[Message]:
        return [message for message in self.told if message.stream == stream]


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
        made.ends("yard", 0, 0)
        made.ends("door", 0, 0)
        while True:
            yield

    MadeCluster(steps).run()


def test_a_process_that_died_may_be_started_on_its_node_again() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        made.shard_of("yard").failure = ShardLost("the actor died")
        yield
        assert made.shard_of("yard").avoided == set()
        made.ends("yard", 0, 0)
        made.ends("door", 0, 0)
        while True:
            yield

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
        made.ends("door", 0, 0)
        made.ends("yard", 0, 0)
        while True:
            yield

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
        run, shed = made.supervisor, StreamSettings(name="shed", source="clip.mp4")
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
    assert [stream.name for stream in made.supervisor.streams()] == ["door", "shed"]
    assert health_of(made, "yard") == [("ended", "removed")]
    assert health_of(made, "shed") == [("down", "changed"), ("ended", "end of the file")]
    assert list(summary.streams) == ["door", "yard", "shed"]


def test_a_run_whose_streams_were_all_removed_waits_for_others() -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        run = made.supervisor
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
        made.supervisor.add(StreamSettings(name="shed", source="missing.mp4"))
        yield
        made.placed[2].refused = {"shed": "source is 'missing.mp4', but there is no such file"}
        made.placed[2].summary = Summary(1.0, {})
        yield
        yield
        made.ends("door", 0, 0)
        made.ends("yard", 0, 0)
        while True:
            yield

    made = MadeCluster(steps)
    made.run()
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
    with pytest.raises(ConfigError, match=r"'yard'\.node is missing"):
        control.add(StreamSettings(name="yard", source="0"))
