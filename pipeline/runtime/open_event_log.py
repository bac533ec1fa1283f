"""Events that began and have not ended yet, in shared memory (``links = "zmq"``).

The process that publishes writes them here before it sends them. When it is killed, the process that replaces it reads
which ends it has to send, and how many had crossed each line. Like the ring's, the memory has no name: it is freed when
the last process that has it open exits.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from engines.arrays import Float
from pipeline.events.history import POINTS
from pipeline.frames.clock import timestamp
from pipeline.frames.events import Cause, EventKind
from pipeline.frames.rounding import rounded
from pipeline.frames.types import Counts
from pipeline.runtime.path_buffer import BYTES, ROW, ROWS, PathBuffer, SeenTracks
from pipeline.runtime.shared_file import SharedFile
from pipeline.runtime.stream_rows import StreamRows
from pipeline.wire.messages import EventMessage

ROOM: Final = 64 * 1024  # bytes for the open events of a stream, some 500; what is beyond is not ended after a crash
# Of 8 bytes, before a stream's two buffers: VERSION, SIZE of each, LAST seq and Unix time, OVER, PATH_ROWS.
WORDS: Final = 8
VERSION, SIZE, LAST, OVER, PATH_ROWS = 0, slice(1, 3), slice(3, 5), 5, slice(6, 7)

Key = tuple[str, int | None, str | None]

_BEGINS: Final = frozenset({"new", "changed", "enter"})
_ENDS: Final = frozenset({"ended", "leave"})


class _Open(msgspec.Struct, array_like=True, frozen=True):
    """The fields of an end event that are known from its beginning."""

    kind: EventKind
    track: int | None
    label: str | None
    score: float | None
    box: tuple[float, float, float, float] | None
    first_seen: str | None
    best_score: float | None
    name: str | None


class _Line(msgspec.Struct, array_like=True, frozen=True):
    """How many objects crossed a line since the run began."""

    name: str
    counts: Counts


class _Snapshot(msgspec.Struct, array_like=True, frozen=True):
    """The content of a buffer."""

    lines: list[_Line] = []
    open: list[_Open] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Snapshot)


class OpenEventLog:
    """The open events of each stream. One process writes them; another may read them once that one is dead.

    Each stream has two buffers, written by turns, of which VERSION names the valid one: a process that is killed while
    it writes leaves the other one intact.
    """

    def __init__(self, streams: tuple[str, ...], file: SharedFile, spare: int = 0) -> None:
        self._first, self._spare, self._file = streams, spare, file
        rows = len(streams) + spare
        self._memory = file.memory
        self._rows = StreamRows(np.frombuffer(self._memory, np.int64, StreamRows.words(rows)), streams)
        self._begin = 8 * StreamRows.words(rows)
        self._path_buffers: dict[str, PathBuffer] = {}
        self._open: defaultdict[str, dict[Key, bytes]] = defaultdict(dict)
        self._lines: dict[str, dict[str, bytes]] = {}

    @classmethod
    def create(cls, streams: tuple[str, ...], spare: int = 0) -> Self:
        """Make an empty log with room for ``spare`` more streams; ConfigError where there is too little memory."""
        return cls(streams, SharedFile.create(_size(len(streams) + spare), "what has been announced"), spare)

    def __reduce__(self) -> tuple[type["OpenEventLog"], tuple[tuple[str, ...], SharedFile, int]]:
        return OpenEventLog, (self._first, self._file, self._spare)

    def begin(self, stream: str) -> None:
        """Add a stream; raise ConfigError where there is no room for it."""
        self._rows.room_for(stream)
        self._words(stream)[OVER] = 0

    def forget(self, stream: str) -> None:
        """Clear the open events of a stream, and let its lines count from 0."""
        self._open[stream].clear()
        self._lines_of(stream).clear()
        self._write(stream)

    def _start(self, stream: str) -> int:
        return self._begin + self._rows.row(stream) * _stride()

    def _words(self, stream: str) -> npt.NDArray[np.int64]:
        return np.frombuffer(self._memory, np.int64, WORDS, self._start(stream))

    def _path_buffer(self, stream: str) -> PathBuffer:
        if stream not in self._path_buffers:
            rows = np.frombuffer(self._memory, ROW, ROWS, self._start(stream) + 8 * WORDS + 2 * ROOM)
            self._path_buffers[stream] = PathBuffer(self._words(stream)[PATH_ROWS], rows)
        return self._path_buffers[stream]

    def _lines_of(self, stream: str) -> dict[str, bytes]:
        if stream not in self._lines:
            self._lines[stream] = {line.name: _encoder.encode(line) for line in self._read(stream).lines}
        return self._lines[stream]

    def reached(self, stream: str, seq: int, captured_ns: int, objects: SeenTracks, faces: SeenTracks) -> None:
        """Note the tracks of a frame whose message is about to be published."""
        self._words(stream)[LAST] = seq, captured_ns
        self._path_buffer(stream).note(captured_ns, objects, faces)

    def announcing(self, events: Iterable[EventMessage]) -> None:
        """Note events that are about to be published: what begins with them may have to be ended, and line counts."""
        changed = set()
        for event in events:
            if event.event in _BEGINS:
                self._open[event.stream][_key(event)] = _encoder.encode(_as_open(event))
                changed.add(event.stream)
            elif event.event == "cross" and event.name is not None and event.counts is not None:
                self._lines_of(event.stream)[event.name] = _encoder.encode(_Line(event.name, event.counts))
                changed.add(event.stream)
        for stream in changed:
            self._write(stream)

    def announced(self, events: Iterable[EventMessage]) -> None:
        """Note events that were published: what ended with them need not be ended again."""
        changed = set()
        for event in events:
            if event.event in _ENDS and self._open[event.stream].pop(_key(event), None) is not None:
                changed.add(event.stream)
        for stream in changed:
            self._write(stream)

    def left(self, cause: Cause) -> list[EventMessage]:
        """Return the end events that a dead process did not send; what only it knew, such as best views, is missing."""
        return [event for stream in self._rows.names for event in self.left_of(stream, cause)]

    def line_counts(self, stream: str) -> dict[str, Counts]:
        """Return the counts of each line of a stream since the run began, of those that were crossed."""
        return {line.name: line.counts for line in self._read(stream).lines}

    def over(self, stream: str) -> None:
        """Note that the end of a stream was published."""
        self._words(stream)[OVER] = 1

    def is_over(self, stream: str) -> bool:
        """Return whether the end of a stream was published."""
        return bool(self._words(stream)[OVER])

    def clear(self) -> None:
        """Clear the open events of all streams, whose ends were sent."""
        for stream in self._rows.names:
            self.clear_of(stream)

    def clear_of(self, stream: str) -> None:
        """Clear those of one stream."""
        self._open[stream].clear()
        self._write(stream)

    def close(self) -> None:
        """Close the file; the memory is freed when no array points into it any more."""
        self._file.close()

    def _write(self, stream: str) -> None:
        words, lines, things = self._words(stream), self._lines_of(stream).values(), self._open[stream].values()
        body = _packed(lines, things)
        if len(body) > ROOM:
            body = _packed(*_fitting(lines, things))
        version = int(words[VERSION]) + 1
        start = self._start(stream) + 8 * WORDS + version % 2 * ROOM
        self._memory[start : start + len(body)] = body
        words[SIZE][version % 2] = len(body)
        words[VERSION] = version  # last: from here on it counts

    def _read(self, stream: str) -> _Snapshot:
        words = self._words(stream)
        room = int(words[VERSION]) % 2
        size = int(words[SIZE][room])
        start = self._start(stream) + 8 * WORDS + room * ROOM
        return _decoder.decode(self._memory[start : start + size]) if size else _Snapshot()

    def left_of(self, stream: str, cause: Cause) -> list[EventMessage]:
        """Return those of one stream, as :meth:`left` does."""
        seq, at_ns = self._words(stream)[LAST].tolist()
        things = self._read(stream).open
        present = Counter((thing.name, str(thing.label)) for thing in things if thing.kind == "zone")
        ends = []
        # What began last ends first: an object leaves its zones before it ends, and a face loses its name.
        for thing in reversed(things):
            end = _end(thing, stream, seq, timestamp(at_ns), cause)
            if thing.kind == "zone":
                present[thing.name, str(thing.label)] -= 1
                inside = {label: count for (zone, label), count in present.items() if zone == thing.name and count}
                end = msgspec.structs.replace(end, counts={"present": inside})
            elif thing.track is not None and thing.first_seen is not None and thing.box is not None:
                path_buffer = self._path_buffer(stream).of(thing.track, thing.kind != "object")
                end = _with_path(end, thing.first_seen, thing.box, *path_buffer)
            ends.append(end)
        return ends


def _packed(lines: Collection[bytes], things: Collection[bytes]) -> bytes:
    """Return an encoded :class:`_Snapshot`: in MessagePack, an array of two arrays of type array 32."""
    return b"".join((b"\x92\xdd", len(lines).to_bytes(4), *lines, b"\xdd", len(things).to_bytes(4), *things))


def _fitting(*parts: Collection[bytes]) -> list[list[bytes]]:
    """Return as many items of each part as fit into a buffer, the first part before the second."""
    left, kept = ROOM - len(_packed((), ())), []
    for part in parts:
        sizes = np.cumsum([len(one) for one in part])
        kept.append(list(part)[: int(sizes.searchsorted(left, "right"))])
        left -= sum(map(len, kept[-1]))
    return kept


def _as_open(event: EventMessage) -> _Open:
    return _Open(
        event.kind,
        event.track,
        event.label,
        event.score,
        event.box,
        event.first_seen,
        event.best_score,
        event.name,
    )


def _end(thing: _Open, stream: str, seq: int, at: str, cause: Cause) -> EventMessage:
    return EventMessage(
        stream=stream,
        seq=seq,
        captured_at=at,
        event="leave" if thing.kind == "zone" else "ended",
        kind=thing.kind,
        track=thing.track,
        label=thing.label,
        score=thing.score,
        box=thing.box,
        first_seen=thing.first_seen,
        last_seen=max(at, thing.first_seen or at),  # the clock may have been set back
        duration_s=None if thing.first_seen is None else _seconds(thing.first_seen, at),
        best_score=thing.best_score,
        cause=cause,
        name=thing.name,
    )


def _with_path(
    end: EventMessage, first_seen: str, first: tuple[float, ...], times: npt.NDArray[np.int64], boxes: Float
) -> EventMessage:
    """Return the end event with the last known box, and the path from the ``first`` box to it."""
    seconds = (times - datetime.fromisoformat(first_seen).timestamp() * 1e9) / 1e9
    later = seconds > 0.001  # moments in messages are of milliseconds
    seconds, boxes = np.append(0.0, seconds[later]), np.concatenate([np.array([first], np.float32), boxes[later]])
    rows = np.unique(np.linspace(0, len(boxes) - 1, POINTS).round().astype(np.int64))
    x = (boxes[rows, 0] + boxes[rows, 2]) / 2
    y = boxes[rows, 3] if end.kind == "object" else (boxes[rows, 1] + boxes[rows, 3]) / 2
    path = zip(rounded(seconds[rows], 2).tolist(), rounded(x, 1).tolist(), rounded(y, 1).tolist(), strict=True)
    x0, y0, x1, y1 = rounded(boxes[-1], 1).tolist()
    return msgspec.structs.replace(end, box=(x0, y0, x1, y1), path=tuple(path))


def _seconds(since: str, until: str) -> float:
    passed = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return round(max(0.0, passed.total_seconds()), 3)


def _key(event: EventMessage) -> Key:
    return event.kind, event.track, event.name


def _stride() -> int:
    return 8 * WORDS + 2 * ROOM + BYTES


def _size(rows: int) -> int:
    return 8 * StreamRows.words(rows) + rows * _stride()
