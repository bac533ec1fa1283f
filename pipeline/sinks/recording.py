"""What waits for the recorder, so that nobody who publishes is held up by a video."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from engines.priority import give_way
from pipeline.frames.types import Counts, Result
from pipeline.settings.schema import StreamSettings
from pipeline.sinks.base import SinkCounts
from pipeline.sinks.books import Lost, SinkBook
from pipeline.sinks.video import Recorder

ROOM: Final = 8  # frames that wait for the recorder, of all streams together ...
MIN_ROOM: Final = 2  # ... but so many of each

GIVEN, RECORDED, RECORDING_WORDS = 0, 1, 2

log = structlog.get_logger()


class _Finish(NamedTuple):
    """What was recorded of a stream is to be a finished file."""

    stream: str
    removed: bool  # it does not come back as it was


Item = tuple[Result, Mapping[str, Counts]] | _Finish


class Recording:
    """What waits for a recorder, and the thread that it runs in.

    Nobody who publishes is held up: a live stream's frame that finds the stream's share of the room taken is left out
    of the recording, and of nothing else. A file is recorded completely: its source waits for room.

    Args:
        recorder: closed at the end.
        streams: all of the run.
        live: those of them whose frames may be left out.
        done: called with each result that is not needed any more, recorded or not.
        wanted: whether a stream is to be recorded now. Its video is finished with the first frame that is not wanted,
            and the next that is begins another.
        book: where what becomes of frames is counted; None: in one of its own.
        rows: gives the int64 (RECORDING_WORDS,) of each stream, perhaps in shared memory, where a process that died
            has counted: frames that were given, and those that are in a file. None: nobody asks for them.
    """

    def __init__(
        self,
        recorder: Recorder,
        streams: Collection[str],
        live: Collection[str],
        done: Callable[[Result], object] = lambda result: None,
        wanted: Callable[[str], bool] = lambda stream: True,
        book: SinkBook | None = None,
        rows: Callable[[str], npt.NDArray[np.int64]] | None = None,
    ) -> None:
        self._rows = rows or (lambda stream: np.zeros(RECORDING_WORDS, np.int64))
        self._frames: dict[str, _StreamFrames] = {}
        self._recorder, self._live, self._done, self._wanted = recorder, frozenset(live), done, wanted
        self._off: set[str] = set()  # streams whose last frame was not wanted
        self._room = recorder_room(len(streams))
        self._items: deque[Item] = deque()
        self._waiting: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._book = SinkBook() if book is None else book
        self._changed = threading.Condition()
        self._finished = self._abandoned = False

    def take(self, result: Result, counts: Mapping[str, Counts]) -> None:
        """Take a frame, or leave it out; never waits.

        Args:
            result: the frame.
            counts: of the stream's zones and lines, just after it.
        """
        stream, first = result.frame.stream, False
        if not self._is_on(stream):
            self._done(result)
            return
        with self._changed:
            self._book.give()
            self._frames_of(stream).give()
            taken = not self._abandoned and (stream not in self._live or self._waiting[stream] < self._room)
            if taken:
                self._items.append((result, counts))
                self._waiting[stream] += 1
                self._changed.notify_all()
            else:
                first = not self._abandoned and not self._left_out[stream]
                self._leave_out(stream, "dead" if self._abandoned else "full")
        if first:
            log.warning("recording leaves frames out", stream=stream, cause="encoding is slower than the stream")
        if not taken:
            self._done(result)

    def begin(self, settings: StreamSettings, live: bool) -> None:
        """A stream is added or changed; ``live``: whether its frames may be left out."""
        with self._changed:
            name = frozenset((settings.name,))
            self._live = self._live | name if live else self._live - name
            self._recorder.begin(settings)

    def forget(self, stream: str) -> None:
        """A stream was removed: its video is finished once its frames are in it."""
        self._finish_video(stream, removed=True)

    def await_room(self, stream: str) -> None:
        """Wait until a file's next frame may be captured; at once for a live stream."""
        if stream not in self._live:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting[stream] < self._room or self._abandoned)

    @property
    def left_out(self) -> dict[str, int]:
        """How many frames are missing in the recording, of each stream that has such."""
        with self._changed:
            return dict(self._left_out + Counter({stream: self._recorder.missing(stream) for stream in self._frames}))

    @property
    def counts(self) -> SinkCounts:
        """What became of the frames so far."""
        with self._changed:
            lost = {cause: count for cause, count in self._book.lost.items() if count}
            return SinkCounts(self._book.sent, lost, self._book.waiting)

    def run(self) -> None:
        """Record until :meth:`finish` or :meth:`abandon`; a failure is logged, and ends the recording alone."""
        if self._live:  # messages come first
            give_way()
        try:
            with self._recorder:
                while (item := self._next()) is not None:
                    if isinstance(item, _Finish):
                        (self._recorder.forget if item.removed else self._recorder.finish)(item.stream)
                        continue
                    recorded = False
                    try:
                        recorded = self._recorder.write(*item)
                    finally:
                        self._note(item[0].frame.stream, recorded)
                        self._done(item[0])
        except Exception:  # what cannot be drawn or encoded ends the recording, not the run
            log.exception("recording failed")
        finally:
            self.abandon()
            with self._changed:
                for stream, frames in self._frames.items():
                    frames.know(self._recorder.missing(stream))

    def finish(self) -> None:
        """No frame comes any more; those that wait are still recorded."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Take nothing more, and give up what waits."""
        with self._changed:
            self._abandoned = True
            rest = [item[0] for item in self._items if not isinstance(item, _Finish)]
            for result in rest:
                self._leave_out(result.frame.stream, "shutdown")
            self._items.clear()
            self._waiting.clear()
            self._changed.notify_all()
        for result in rest:
            self._done(result)

    def _is_on(self, stream: str) -> bool:
        """Whether a stream's next frame is wanted; where it is not any more, its video is finished."""
        if self._wanted(stream):
            self._off.discard(stream)
        elif stream not in self._off:
            self._off.add(stream)
            self._finish_video(stream, removed=False)
        return stream not in self._off

    def _finish_video(self, stream: str, removed: bool) -> None:
        with self._changed:
            if not self._abandoned:
                self._items.append(_Finish(stream, removed))
                self._changed.notify_all()

    def _note(self, stream: str, recorded: bool) -> None:
        with self._changed:
            if recorded:
                self._book.note_sent()
                frames = self._frames_of(stream)
                frames.taken += 1
                frames.know(self._recorder.missing(stream))
            else:
                self._leave_out(stream, "failed")

    def _frames_of(self, stream: str) -> "_StreamFrames":
        if stream not in self._frames:
            self._frames[stream] = _StreamFrames(self._rows(stream))
        return self._frames[stream]

    def _leave_out(self, stream: str, cause: Lost) -> None:
        self._left_out[stream] += 1
        self._book.lose(cause)

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished or self._abandoned)
            if not self._items:
                return None
            item = self._items.popleft()
            if not isinstance(item, _Finish):
                self._waiting[item[0].frame.stream] -= 1
                self._changed.notify_all()
            return item


class _StreamFrames:
    """The frames of one stream, counted on from where a process that died had counted."""

    def __init__(self, row: npt.NDArray[np.int64]) -> None:
        self._row, self._before = row, int(row[RECORDED])
        self.taken = 0  # by the recorder

    def give(self) -> None:
        self._row[GIVEN] += 1

    def know(self, missing: int) -> None:
        """So many of those that were taken are in no file."""
        self._row[RECORDED] = self._before + self.taken - missing


def recorder_room(streams: int) -> int:
    """How many frames of each of so many streams may wait for the recorder."""
    return max(MIN_ROOM, -(-ROOM // streams))
