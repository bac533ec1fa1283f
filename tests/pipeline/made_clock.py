"""A made site on a made clock: sources, a thread that prepares batches, an engine. Deterministic, and takes no time."""

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.batching.batcher import Taken
from pipeline.frames.types import BatchTiming, Mode, Timestamps

MS = 1_000_000  # ns
SECOND = 1000 * MS


@dataclass(frozen=True, slots=True)
class Tick:
    """What stands for a frame: its stream, its number, and when its source gave it."""

    stream: str
    seq: int
    clock_ns: int
    unchanged: bool = False
    between: bool = False
    blank: bool = False


class Policy(Protocol):
    """What decides on batches."""

    def has_room(self, stream: str) -> bool: ...
    def offer(self, frame: Tick, now_ns: int) -> tuple[Tick, ...]: ...
    def finish(self, stream: str) -> None: ...
    def ran(self, ran: BatchTiming) -> None: ...
    def due(self, now_ns: int) -> float | None: ...
    def take(self, now_ns: int) -> Taken[Tick]: ...


@dataclass(frozen=True)
class Source:
    """Frames of a stream: when each is there at the earliest, and how long the source needs for one.

    ``unchanged`` tells of a frame's number whether nothing moved since the one before, and ``between`` whether the
    inference rate leaves it out.
    """

    times_ns: list[int]
    mode: Mode = "freshest"
    decode_ns: int = 0
    unchanged: Callable[[int], bool] = lambda seq: False
    between: Callable[[int], bool] = lambda seq: False


@dataclass(slots=True)
class Report:
    """What happened."""

    done: list[tuple[Tick, int]] = field(default_factory=list)  # every frame that came out, and when
    skipped: set[tuple[str, int]] = field(default_factory=set)
    dropped: list[Tick] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)  # frames inferred in each
    busy_ns: int = 0
    ended_ns: int = 0

    def latencies_ms(self, *streams: str) -> list[float]:
        """Of the frames of these streams, or of all, sorted."""
        return sorted((at - tick.clock_ns) / MS for tick, at in self.done if not streams or tick.stream in streams)

    def latency_ms(self, share: float, *streams: str) -> float:
        latencies = self.latencies_ms(*streams)
        return latencies[min(int(share * len(latencies)), len(latencies) - 1)]

    def counts(self) -> Counter[str]:
        """Frames that came out, by stream."""
        return Counter(tick.stream for tick, _ in self.done)

    def seqs(self) -> dict[str, list[int]]:
        """The numbers of the frames that came out, by stream, in order."""
        by_stream = defaultdict[str, list[int]](list)
        for tick, _ in self.done:
            by_stream[tick.stream].append(tick.seq)
        return by_stream


class Site:
    """Runs sources through a policy and an engine until every frame is out or dropped.

    Args:
        policy: under test.
        sources: by stream.
        engine_ns: how long the engine takes for a batch of a size.
        prepare_ns: how long it takes to prepare a frame.
        lose: batches, by number from 0, that crash on their way to the engine.
    """

    def __init__(
        self,
        policy: Policy,
        sources: dict[str, Source],
        engine_ns: Callable[[int], float],
        prepare_ns: int = MS // 2,
        lose: Iterable[int] = (),
    ) -> None:
        self._policy, self._sources = policy, sources
        self._engine_ns, self._prepare_ns = engine_ns, prepare_ns
        self._lose = set(lose)
        self._report = Report()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._taken = itertools.count()
        self._now_ns = 0
        self._next = dict.fromkeys(sources, 0)  # frame of each source
        self._blocked: list[str] = []
        self._preparing = False
        self._prepared: tuple[Taken[Tick], int, int] | None = None  # waits for the engine: capacity 1
        self._held: tuple[Taken[Tick], int, int] | None = None  # waits for room there
        self._running = False
        self._wake_ns: int | None = None

    def run(self) -> Report:
        for name in self._sources:
            self._schedule(name)
        while self._events:
            self._now_ns, _, event = heapq.heappop(self._events)
            event()
            self._go()
        self._report.ended_ns = self._now_ns
        return self._report

    def _at(self, time_ns: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(self._now_ns, -int(-time_ns // 1)), next(self._numbers), event))

    def _schedule(self, name: str) -> None:
        source, number = self._sources[name], self._next[name]
        if number >= len(source.times_ns):
            self._policy.finish(name)
        else:
            self._at(max(source.times_ns[number], self._now_ns + source.decode_ns), lambda: self._give(name))

    def _give(self, name: str) -> None:
        if not self._policy.has_room(name):
            self._blocked.append(name)
            return
        number = self._next[name]
        self._next[name] += 1
        source = self._sources[name]
        tick = Tick(name, number, self._now_ns, source.unchanged(number), source.between(number))
        self._report.dropped += self._policy.offer(tick, self._now_ns)
        self._schedule(name)

    def _go(self) -> None:
        """Whatever can go on now does."""
        if self._held is not None and self._prepared is None:
            self._prepared, self._held = self._held, None
        if self._prepared is not None and not self._running:
            (batch, taken_ns, ready_ns), self._prepared = self._prepared, None
            self._start(batch, taken_ns, ready_ns)
            self._go()
        if not self._preparing and self._held is None:
            self._take()

    def _take(self) -> None:
        due = self._policy.due(self._now_ns)
        if due is None:
            return
        if due > self._now_ns:
            if self._wake_ns is None or due < self._wake_ns or self._wake_ns <= self._now_ns:
                self._wake_ns = -int(-due // 1)
                self._at(due, lambda: None)
            return
        batch, taken_ns = self._policy.take(self._now_ns), self._now_ns
        blocked, self._blocked = self._blocked, []
        for name in blocked:
            self._give(name)
        self._preparing = True
        lost = next(self._taken) in self._lose
        size = len(batch.frames) - len(batch.skipped)
        self._at(self._now_ns + self._prepare_ns * size, lambda: self._ready(batch, taken_ns, lost))

    def _ready(self, batch: Taken[Tick], taken_ns: int, lost: bool) -> None:
        self._preparing = False
        if lost:
            self._report.dropped += batch.frames
        else:
            self._held = (batch, taken_ns, self._now_ns)

    def _start(self, batch: Taken[Tick], taken_ns: int, ready_ns: int) -> None:
        began_ns, self._running = self._now_ns, True
        size = len(batch.frames) - len(batch.skipped)
        took_ns = round(self._engine_ns(size)) if size else 0

        def end() -> None:
            self._running = False
            self._policy.ran(BatchTiming(size, Timestamps(taken_ns, ready_ns, began_ns, self._now_ns), depth=1))
            self._report.done += [(tick, self._now_ns) for tick in batch.frames]
            self._report.skipped |= {(batch.frames[row].stream, batch.frames[row].seq) for row in batch.skipped}
            self._report.busy_ns += took_ns
            if size:
                self._report.batches.append(size)

        self._at(began_ns + took_ns, end)


def regular(fps: float, seconds: float, phase: float = 0.0) -> list[int]:
    """A camera that keeps time; ``phase`` in periods."""
    return [round((number + phase) / fps * SECOND) for number in range(round(fps * seconds))]


def jittered(fps: float, seconds: float, jitter_ms: float, seed: int, phase: float = 0.0) -> list[int]:
    """A network camera: each frame is late by a random time."""
    made = random.Random(seed)
    return sorted(round(time + made.uniform(0.0, jitter_ms) * MS) for time in regular(fps, seconds, phase))


def bursty(fps: float, seconds: float, frames: int, phase: float = 0.0) -> list[int]:
    """A sender that holds frames back and gives them in bursts, 1 ms apart."""
    times = regular(fps, seconds, phase)
    return [times[min(start + frames - 1, len(times) - 1)] + place * MS for start, place in _places(len(times), frames)]


def _places(count: int, frames: int) -> Iterator[tuple[int, int]]:
    return ((number - number % frames, number % frames) for number in range(count))


def linear(base_ms: float, frame_ms: float, jitter: float = 0.0, seed: int = 0) -> Callable[[int], float]:
    """An engine whose batches cost ``base_ms`` and ``frame_ms`` for each frame, up to a share more."""
    made = random.Random(seed)
    return lambda size: (base_ms + frame_ms * size) * MS * (1.0 + made.uniform(0.0, jitter))
