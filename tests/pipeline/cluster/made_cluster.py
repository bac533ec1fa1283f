"""A cluster of made-up shards, without Ray, and a run on it."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator

import msgspec

from pipeline.cluster.placement import NodeResources, shards_of
from pipeline.cluster.shard import OpenedShard, ShardReport
from pipeline.cluster.stream_books import StreamBooks
from pipeline.cluster.supervisor import ShardSupervisor
from pipeline.frames.counters import FrameCounts
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.summary import Summary
from pipeline.settings.schema import Config, StreamSettings
from pipeline.wire.messages import EventMessage, HealthMessage, Message, ObjectMessage
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
        self.begun: list[StreamSettings] = []
        self.waiting: deque[tuple[int, Message]] = deque()
        self.heard: dict[int, bool] = {}
        self.nodes: list[NodeResources] = []
        self.stop = threading.Event()
        self._steps = steps(self)
        rows = [{"name": name, "source": "clip.mp4"} for name in ("door", "yard")]
        config = msgspec.convert({"streams": rows, "ray": {"streams_per_shard": 1, "timeout_s": 3.0}}, Config)
        self.books = StreamBooks(("door", "yard"), self.told.append, self.begun.append, spare=4)
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

    def end_all(self, *streams: str) -> Iterator[None]:
        """Let files without a frame end, and then nothing more happen."""
        for stream in streams:
            self.ends(stream, 0, 0)
        while True:
            yield

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
