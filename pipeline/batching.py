"""Which frames go through the network together: pure state, no clock, no lock, no socket."""

from collections import deque
from collections.abc import Collection, Mapping

from pipeline.types import Frame

FILE_BACKLOG = 4  # frames of a file that may wait; its source waits with the next


class Batcher:
    """The frames that wait, by stream, and the choice among them.

    This is the one place in which frames of a stream are dropped: of a live stream only the newest waits. Files lose
    nothing, their source waits until :meth:`has_room`.

    Args:
        live: stream name -> whether it is live.
        max_batch: frames of one batch at most.
    """

    def __init__(self, live: Mapping[str, bool], max_batch: int) -> None:
        self._live = dict(live)
        self._max_batch = max_batch
        self._waiting: dict[str, deque[Frame]] = {name: deque() for name in live}
        self._turn = list(live)  # whose frame is taken first

    def has_room(self, stream: str) -> bool:
        """Whether a frame of the stream may be offered now."""
        return self._live[stream] or len(self._waiting[stream]) < FILE_BACKLOG

    def offer(self, frame: Frame) -> Frame | None:
        """Let a frame wait; returns the stale frame that it takes the place of, if any."""
        waiting = self._waiting[frame.stream]
        stale = waiting.popleft() if self._live[frame.stream] and waiting else None
        waiting.append(frame)
        return stale

    def full(self, open_streams: Collection[str]) -> bool:
        """Whether waiting longer cannot better the next batch: it is full, or every open stream has a frame in it."""
        count = sum(len(waiting) for waiting in self._waiting.values())
        return count >= self._max_batch or all(self._waiting[name] for name in open_streams)

    @property
    def empty(self) -> bool:
        """Whether no frame waits."""
        return not any(self._waiting.values())

    def take(self) -> tuple[Frame, ...]:
        """The next batch: a frame of each stream in turn, then second frames, until it is full.

        The stream that was served last is the last to be served next time, so that streams share batches evenly,
        whatever their number.
        """
        batch: list[Frame] = []
        while len(batch) < self._max_batch and not self.empty:
            for name in tuple(self._turn):
                if self._waiting[name] and len(batch) < self._max_batch:
                    batch.append(self._waiting[name].popleft())
                    self._turn.remove(name)
                    self._turn.append(name)
        return tuple(batch)

    def clear(self) -> tuple[Frame, ...]:
        """Take everything that waits."""
        frames = tuple(frame for waiting in self._waiting.values() for frame in waiting)
        for waiting in self._waiting.values():
            waiting.clear()
        return frames
