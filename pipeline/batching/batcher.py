"""Which frames go through the network together, and when: pure state, no clock, no lock, no socket.

A batch is taken as late as the engine allows and no later. While the engine is busy nothing is gained by taking one:
frames gather, and newer ones take the place of older ones of the same live stream. While it is idle a frame waits for
one of another stream only where that is due within the time that sharing a batch would save; and where the processor is
nearly busy, with decoding most of all, a few frames gather for the work that is done once a batch, as far as their
latency allows. A stream that is slow, stalled or dead is not due, and costs the others nothing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from pipeline.batching.forecast import ArrivalEstimator, EngineTimes, Load, median
from pipeline.frames.types import BatchTiming, Mode

MIN_BACKLOG: Final = 2  # frames that may wait of a stream that loses none: one to take, one to come
UNCHANGED_BACKLOG: Final = 4  # frames of a live stream that may wait without need of the engine
PREPARED: Final = 9  # batches that the time to prepare a frame is the median of
EARLY_SHARE: Final = 0.1  # of the engine's time for a batch: so much before its end the next is ready ...
EARLY_NS: Final = 300_000  # ... and by this, for threads to wake
COMPANY: Final = 4  # frames from which on another hardly makes any cheaper
GATHER_SHARE: Final = 0.3  # of the staleness for which a frame waits for them while the processor is busy ...
CALM, BUSY = 0.5, 0.9  # ... as it is from BUSY on; less from there down to CALM, and not at all below
LOAD_GAP_NS: Final = 1_000_000_000  # a longer rest of the engine tells nothing of its load
LOST_NS: Final = 100_000_000  # a batch that is overdue by this, or by
LOST_SHARE: Final = 4.0  # so many times its length, crashed on its way


def backlog(streams: int, max_batch: int) -> int:
    """Frames that may wait of each of so many streams that lose none: a whole batch together, two at the least."""
    return max(MIN_BACKLOG, -(-max_batch // max(1, streams)))


class Waiting(Protocol):
    """What a frame, or whatever stands for one, tells of itself."""

    @property
    def stream(self) -> str: ...
    @property
    def clock_ns(self) -> int: ...
    @property
    def unchanged(self) -> bool: ...
    @property
    def between(self) -> bool: ...
    @property
    def blank(self) -> bool: ...  # without pixels: it cannot be inferred in the place of one before it


W = TypeVar("W", bound=Waiting)


class Taken(NamedTuple, Generic[W]):
    """A batch: its frames, and the positions of those that need no inference."""

    frames: tuple[W, ...]
    skipped: frozenset[int]


@dataclass(slots=True)
class _StreamQueue(Generic[W]):
    """What waits of one stream, in order."""

    mode: Mode
    room: int
    arrivals: ArrivalEstimator = field(default_factory=ArrivalEstimator)
    waiting: deque[tuple[W, bool]] = field(default_factory=deque)  # a frame, and whether it is to be inferred
    wanted: int = 0  # of those
    open: bool = True
    unchanged: bool = False  # whether its last frame needed no inference, so that the next will hardly do

    @property
    def has_room(self) -> bool:
        return self.mode == "freshest" or len(self.waiting) < self.room

    def offer(self, frame: W, now_ns: int, max_queue_delay_ns: int) -> tuple[W, ...]:
        stale: tuple[W, ...] = ()
        wanted = not (frame.unchanged or frame.between)
        if self.mode == "freshest" and self.wanted and not frame.blank:
            place = next(place for place, (_, infer) in enumerate(self.waiting) if infer)
            oldest, _ = self.waiting[place]
            if now_ns - oldest.clock_ns >= max_queue_delay_ns or len(self.waiting) >= self.room:
                # What comes after it shows the same motion, or where it ended.
                del self.waiting[place]
                self.wanted -= 1
                stale, wanted = (oldest,), wanted or not self.wanted
        elif self.mode == "freshest" and len(self.waiting) >= self.room:
            place = next((place for place, (_, infer) in enumerate(self.waiting) if not infer), 0)
            self.wanted -= self.waiting[place][1]
            stale = (self.waiting[place][0],)
            del self.waiting[place]
        self.waiting.append((frame, wanted))
        self.wanted += wanted
        if not frame.between:
            self.unchanged = not wanted
        return stale

    def may_add(self) -> bool:
        """Whether its next frame would add one to a batch."""
        return self.open and not self.unchanged and self.has_room and not (self.mode == "freshest" and self.wanted)


class Batcher(Generic[W]):
    """The frames that wait, by stream, and the choice among them. Times are ``time.monotonic_ns()``.

    This is the one place in which frames of a stream are dropped: of a live stream the newest wins, and an older one
    waits beside it only while it is not stale. What is dropped is given back to whoever offered.

    Args:
        modes: stream -> what becomes of its frames when they come faster than they go.
        max_batch: frames of one batch at most, those that need no inference not counted.
        max_queue_delay_ns: a frame this old waits for no company, and gives way to the next of its live stream.
    """

    def __init__(self, modes: Mapping[str, Mode], max_batch: int, max_queue_delay_ns: int) -> None:
        self._max_batch = max_batch
        self._staleness_ns = max_queue_delay_ns
        self._depth = 1  # batches that the engine has under way at once, as far as it has told
        # In order of their turn: who was served last comes last.
        self._queues: dict[str, _StreamQueue[W]] = {}
        for name, mode in modes.items():
            self._queues[name] = _StreamQueue(mode, MIN_BACKLOG)
        self._share_room()
        self._count = 0
        self._wanted = 0  # of those, to be inferred
        self._joined_ns = 0  # when the last of those came
        self._times = EngineTimes()
        self._load = Load()
        self._gather_ns = 0.0  # that a frame waits for company to spare the processor
        self._prepare_ns: deque[float] = deque(maxlen=PREPARED)  # a frame, by batch
        self._under_way: deque[tuple[int, int]] = deque()  # when they were taken, and how many frames to infer
        self._free_ns = -LOAD_GAP_NS  # when the engine ended its last batch

    def add(self, stream: str, mode: Mode) -> None:
        """One stream more; nothing waits of it yet."""
        self._queues[stream] = _StreamQueue(mode, MIN_BACKLOG)
        self._share_room()

    def remove(self, stream: str) -> tuple[W, ...]:
        """One stream less; returns what still waited of it."""
        queue = self._queues.pop(stream)
        self._count -= len(queue.waiting)
        self._wanted -= queue.wanted
        self._share_room()
        return tuple(frame for frame, _ in queue.waiting)

    def _share_room(self) -> None:
        losing_none = sum(queue.mode != "freshest" for queue in self._queues.values())
        room = backlog(losing_none, self._max_batch)
        for queue in self._queues.values():
            queue.room = UNCHANGED_BACKLOG if queue.mode == "freshest" else room

    def has_room(self, stream: str) -> bool:
        """Whether a frame of the stream may be offered now."""
        return self._queues[stream].has_room

    @property
    def empty(self) -> bool:
        """Whether no frame waits."""
        return not self._count

    @property
    def waiting(self) -> int:
        """How many frames wait."""
        return self._count

    def offer(self, frame: W, now_ns: int) -> tuple[W, ...]:
        """Let a frame wait; returns the stale frames that it takes the place of."""
        queue = self._queues[frame.stream]
        count, wanted = len(queue.waiting), queue.wanted
        stale = queue.offer(frame, now_ns, self._staleness_ns)
        if not frame.between:  # what may be waited for comes at the rate at which the stream is inferred
            queue.arrivals.beat(now_ns)
        self._count += len(queue.waiting) - count
        self._wanted += queue.wanted - wanted
        if queue.wanted > wanted:
            self._joined_ns = now_ns
        return stale

    def finish(self, stream: str) -> None:
        """The stream gives no more frames: nobody waits for it."""
        self._queues[stream].open = False

    def ran(self, ran: BatchTiming) -> None:
        """The engine ended a batch; batches end in the order in which they were taken."""
        size, timestamps, self._depth = ran.size, ran.timestamps, ran.depth
        while self._under_way and self._under_way[0][0] <= timestamps.taken_ns:
            self._under_way.popleft()  # those before it crashed on their way
        # Of batches that ran at the same time, each kept the engine from the next since the one before ended.
        before_ns, self._free_ns = self._free_ns, timestamps.infer_ended_ns
        if size:
            took_ns = self._free_ns - max(timestamps.infer_started_ns, before_ns)
            self._times.add(size, took_ns)
            self._load.add(took_ns, min(self._free_ns - before_ns, LOAD_GAP_NS))
            self._prepare_ns.append((timestamps.ready_ns - timestamps.taken_ns) / size)

    def burdened(self, share: float) -> None:
        """The processor was busy for this ``share`` of its time of late, in [0, 1]."""
        urge = min(max((share - CALM) / (BUSY - CALM), 0.0), 1.0)
        self._gather_ns = urge * GATHER_SHARE * self._staleness_ns

    def due(self, now_ns: int) -> float | None:
        """When to take the next batch, should nothing happen before: at once if that is not later than ``now_ns``.

        None while nothing waits.
        """
        if not self._count:
            return None
        size = min(self._wanted, self._max_batch)
        if size == self._max_batch and self._loses_nothing() and len(self._under_way) <= self._depth:
            return now_ns  # no frame can become fresher, and the sources are waiting
        start_ns = self._wanted_from(now_ns, size)
        if size == self._max_batch or not size:
            return start_ns
        return self._awaited(start_ns, size)

    def take(self, now_ns: int) -> Taken[W]:
        """The next batch: a frame of each stream, then second frames, until it is full.

        The stream that was served last is the last to be served next time, so that streams share the engine evenly,
        whatever their number. Frames that need no inference go along in the order of their stream.
        """
        frames: list[W] = []
        skipped: set[int] = set()
        left = self._max_batch
        served = True
        while served:
            served = False
            for name, queue in tuple(self._queues.items()):
                while queue.waiting and not queue.waiting[0][1]:
                    skipped.add(len(frames))
                    frames.append(queue.waiting.popleft()[0])
                if left and queue.waiting:
                    frames.append(queue.waiting.popleft()[0])
                    queue.wanted -= 1
                    left -= 1
                    self._queues[name] = self._queues.pop(name)
                    served = True
        size = len(frames) - len(skipped)
        self._count -= len(frames)
        self._wanted -= size
        self._under_way.append((now_ns, size))
        return Taken(tuple(frames), frozenset(skipped))

    def clear(self) -> tuple[W, ...]:
        """Take everything that waits."""
        frames = tuple(frame for queue in self._queues.values() for frame, _ in queue.waiting)
        for queue in self._queues.values():
            queue.waiting.clear()
            queue.wanted = 0
        self._count = self._wanted = 0
        return frames

    def _loses_nothing(self) -> bool:
        return not any(queue.wanted and queue.mode == "freshest" for queue in self._queues.values())

    def _wanted_from(self, now_ns: int, size: int) -> float:
        """The moment from which on the engine has use for another batch, of ``size``; past if it has by now."""
        ends = self._ends()
        while ends and now_ns > ends[0] + self._patience_ns():
            ends.popleft()
            self._under_way.popleft()
        if len(ends) < self._depth:
            return self._free_ns
        if len(ends) > self._depth or not self._prepare_ns:
            # One waits for the engine already, or nobody knows yet how long the engine takes: until that is told.
            return ends[0] + self._patience_ns() + 1
        early_ns = EARLY_NS + EARLY_SHARE * self._times.of(self._under_way[-self._depth][1])
        return ends[-self._depth] - median(self._prepare_ns) * size - early_ns

    def _patience_ns(self) -> float:
        """For how long the oldest batch under way may be overdue."""
        return max(LOST_NS, LOST_SHARE * self._times.of(self._under_way[0][1]))

    def _ends(self) -> deque[float]:
        """When the engine will end each of the batches under way."""
        prepare_ns = median(self._prepare_ns) if self._prepare_ns else 0.0
        ends = deque[float]()
        free_ns: float = self._free_ns
        for taken_ns, size in self._under_way:
            free_ns = max(free_ns, taken_ns + prepare_ns * size) + self._times.of(size)
            ends.append(free_ns)
        return ends

    def _awaited(self, start_ns: float, size: int) -> float:
        """Until when a batch that could start at ``start_ns`` waits for a frame more."""
        since_ns = max(start_ns, self._joined_ns)
        oldest_ns, patient = self._oldest()
        limit_ns: float = oldest_ns + self._staleness_ns
        if not patient:
            # All that wait give up together no more than the engine is spared, and each ns of that shortens the time
            # for which it is busy without a break by 1 / (1 - load), as in an M/G/1 queue.
            spared_ns = self._times.saving(size) / (1.0 - self._load.share)
            worth_ns = since_ns + spared_ns / size
            if size < COMPANY:
                worth_ns = max(worth_ns, oldest_ns + self._gather_ns)
            limit_ns = min(limit_ns, worth_ns)
        awaited_ns = start_ns
        if limit_ns <= since_ns:
            return awaited_ns
        for queue in self._queues.values():
            arrivals = queue.arrivals
            last_ns = arrivals.stalled_ns if patient else arrivals.missing_ns
            if arrivals.due_ns <= limit_ns and since_ns <= last_ns > awaited_ns and queue.may_add():
                awaited_ns = min(limit_ns, last_ns)
        return awaited_ns

    def _oldest(self) -> tuple[int, bool]:
        """The clock of the oldest frame that waits to be inferred, and whether none of them is in a hurry."""
        oldest_ns, patient = 1 << 63, True
        for queue in self._queues.values():
            if queue.wanted:
                oldest_ns = min(oldest_ns, next(frame.clock_ns for frame, wanted in queue.waiting if wanted))
                patient = patient and queue.mode == "bulk"
        return oldest_ns, patient
