"""What joins two steps in one process: bounded, and closed from either end."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from pipeline.batching import Batcher
from pipeline.metrics import Accounts
from pipeline.types import Batch, Carrier, Frame

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

    A thread-safe front to :class:`~pipeline.batching.Batcher`. Frames that it drops are counted as ``stale``.
    """

    def __init__(self, batcher: Batcher, accounts: Accounts, streams: tuple[str, ...]) -> None:
        self._batcher = batcher
        self._accounts = accounts
        self._open = set(streams)
        self._changed = threading.Condition()
        self._broken = False

    def put(self, frame: Frame) -> None:
        """Offer a frame; the source of a file waits for room. LinkClosed when nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._batcher.has_room(frame.stream) or self._broken)
            if self._broken:
                raise LinkClosed
            stale = self._batcher.offer(frame)
            self._changed.notify_all()
        if stale is not None:
            self._accounts.dropped(stale.stream, "stale")

    def finish(self, stream: str) -> None:
        """A stream gives no more frames."""
        with self._changed:
            self._open.discard(stream)
            self._changed.notify_all()

    def batches(self, window_s: float) -> Iterator[Batch]:
        """Batches until all streams are finished and nothing waits.

        Args:
            window_s: how long the first frame of a batch waits for frames of other streams.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._batcher.empty or not self._open or self._broken)
                if self._broken or self._batcher.empty:
                    return
                self._changed.wait_for(lambda: self._batcher.full(self._open) or self._broken, timeout=window_s)
                frames = self._batcher.take()
                self._changed.notify_all()
            if frames:
                yield Batch(frames, time.monotonic_ns())

    def abandon(self) -> tuple[Frame, ...]:
        """Break the link; returns the frames that waited."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()
            return self._batcher.clear()
