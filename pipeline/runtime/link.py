"""What joins two steps in one process: bounded, and closed from either end."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from engines.cpu_load import CpuLoad
from pipeline.batching.batcher import Batcher
from pipeline.frames.types import Batch, BatchTiming, Carrier, Frame, Mode
from pipeline.settings.schema import InferenceSettings

T = TypeVar("T", bound=Carrier)


class LinkClosed(Exception):
    """The other end is gone: nothing more can be put."""


class QueueLink(Generic[T]):
    """A bounded first-in first-out link between two threads. ``put`` waits for room: backpressure."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._broken = False

    def put(self, item: T) -> None:
        """Pass an item on; waits while the link is full. LinkClosed when nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._capacity or self._broken)
            if self._broken:
                raise LinkClosed
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Items in order until the link is finished and empty, or broken."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished or self._broken)
                if self._broken or not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    @property
    def waiting(self) -> int:
        """How many frames are in it."""
        with self._changed:
            return sum(len(item.frames) for item in self._items)

    def finish(self) -> None:
        """The writer is done; what is inside is still read."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> list[T]:
        """Break the link; returns what was inside."""
        with self._changed:
            self._broken = True
            rest = list(self._items)
            self._items.clear()
            self._changed.notify_all()
        return rest


class FrameLink:
    """Joins the capture threads of all streams to the batches.

    A thread-safe front to :class:`~pipeline.batching.batcher.Batcher` with the real clock and the real load.

    Args:
        settings: of inference.
        modes: of the streams that there are, by name.
        dropped: is called with each frame that it drops and the cause ``stale``.
        most: frames of a batch; None: ``settings.max_batch``.
    """

    def __init__(
        self,
        settings: InferenceSettings,
        modes: Mapping[str, Mode],
        dropped: Callable[[Frame, str], None],
        most: int | None = None,
    ) -> None:
        delay_ns = round(settings.max_queue_delay_ms * 1e6)
        self._batcher = Batcher[Frame](modes, most or settings.max_batch, delay_ns)
        self._cpu_load = CpuLoad()
        self._dropped = dropped
        self._streams = set(modes)
        self._open = set(modes)  # those of them that give more frames
        self._more = False  # whether others may come once none is open ...
        self._closed = False  # ... and none will, whatever that says
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)  # for the sources of files
        self._due = threading.Condition(self._lock)  # for the thread that takes batches ...
        self._sleeps_until = -math.inf  # ... ns; -inf: it does not wait
        self._broken = False
        self._over = False  # there will be no batch any more

    @property
    def waiting(self) -> int:
        """How many frames wait for a batch."""
        with self._lock:
            return self._batcher.waiting

    def put(self, frame: Frame) -> None:
        """Offer a frame; the source of a file waits for room. LinkClosed when nobody will take it."""
        with self._lock:
            self._room.wait_for(lambda: self._refuses(frame.stream) or self._batcher.has_room(frame.stream))
            if self._refuses(frame.stream):
                raise LinkClosed
            stale = self._batcher.offer(frame, time.monotonic_ns())
            self._wake()
        for each in stale:
            self._dropped(each, "stale")

    def _refuses(self, stream: str) -> bool:
        return self._broken or stream not in self._streams

    def add(self, stream: str, mode: Mode) -> None:
        """A stream more; LinkClosed when the last batch was taken."""
        with self._lock:
            if self._broken or self._over or self._closed:
                raise LinkClosed
            self._streams.add(stream)
            self._open.add(stream)
            self._batcher.add(stream, mode)

    def remove(self, stream: str) -> tuple[Frame, ...]:
        """A stream less; returns what waited of it."""
        with self._lock:
            self._streams.discard(stream)
            self._open.discard(stream)
            waiting = self._batcher.remove(stream)
            self._room.notify_all()
            self._due.notify()
            return waiting

    def expect(self, more: bool) -> None:
        """Whether streams may still be added though all that there are have finished: then the link stays open."""
        with self._lock:
            self._more = more
            self._due.notify()

    def close(self) -> None:
        """No stream is added any more: the link is over once those that there are have finished."""
        with self._lock:
            self._closed = True
            self._due.notify()

    def finish(self, stream: str) -> None:
        """A stream gives no more frames."""
        with self._lock:
            self._open.discard(stream)
            self._batcher.finish(stream)
            self._due.notify()

    def ran(self, ran: BatchTiming) -> None:
        """The engine ended a batch: the next ones go by how long it took."""
        burden = self._cpu_load(time.monotonic_ns())
        with self._lock:
            self._batcher.ran(ran)
            self._batcher.burdened(burden)
            self._wake()

    def batches(self) -> Iterator[Batch]:
        """Batches until all streams are finished, nothing waits and no more is expected. For one thread."""
        while True:
            with self._lock:
                now_ns = self._await_due()
                if now_ns is None:
                    return
                frames, skipped = self._batcher.take(now_ns)
                self._room.notify_all()
            yield Batch(frames, now_ns, skipped)

    def abandon(self) -> tuple[Frame, ...]:
        """Break the link; returns the frames that waited."""
        with self._lock:
            self._broken = True
            self._room.notify_all()
            self._due.notify()
            return self._batcher.clear()

    def _await_due(self) -> int | None:
        """The time when a batch is to be taken; None when there will be none any more."""
        while not self._broken:
            now_ns = time.monotonic_ns()
            due_ns = self._batcher.due(now_ns)
            if due_ns is None and not self._open and (self._closed or not self._more):
                self._over = True
                return None
            if due_ns is not None and due_ns <= now_ns:
                return now_ns
            self._sleeps_until = math.inf if due_ns is None else due_ns
            self._due.wait(None if due_ns is None else (due_ns - now_ns) / 1e9)
            self._sleeps_until = -math.inf
        return None

    def _wake(self) -> None:
        """Wake the thread that takes batches if one is due before it would wake by itself."""
        if self._sleeps_until == -math.inf:
            return
        due_ns = self._batcher.due(time.monotonic_ns())
        if due_ns is not None and due_ns < self._sleeps_until:
            self._due.notify()
