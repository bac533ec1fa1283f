"""What a process has announced and not ended yet, in memory that outlives it (``links = "zmq"``).

Whoever publishes writes here first. When it is killed, whoever comes after it finds what has still to be ended. Like
the ring's, the memory has no name: nothing is left of it when the last process that has it open is gone.
"""

import mmap
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from multiprocessing import reduction
from typing import Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.messages import Cause, EventKind, EventMessage, timestamp
from pipeline.ring import shared_file

ROOM: Final = 64 * 1024  # bytes for the open things of a stream, some 500; what is beyond is not ended after a crash
WORDS: Final = 8  # of 8 bytes, before a stream's two rooms: VERSION, SIZE of either, LAST seq and Unix time
VERSION, SIZE, LAST = 0, slice(1, 3), slice(3, 5)

Key = tuple[str, int | None, str | None]

_BEGINS: Final = frozenset({"new", "changed", "enter"})
_ENDS: Final = frozenset({"ended", "leave"})


class _Open(msgspec.Struct, array_like=True, frozen=True):
    """What is told of a thing when nobody knows any more what became of it."""

    kind: EventKind
    track: int | None
    label: str | None
    score: float | None
    box: tuple[float, float, float, float] | None
    first_seen: str | None
    best_score: float | None
    name: str | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Open])


class Journal:
    """The open things of each stream. One process writes; another may read when that one is dead.

    Each stream has two rooms: the one that counts stays as it is while the other is written, so that a process killed
    at any moment leaves one that is whole.
    """

    def __init__(self, streams: tuple[str, ...], fd: int) -> None:
        self._streams, self._fd = streams, fd
        self._memory = mmap.mmap(fd, _stride() * len(streams))
        self._words: dict[str, npt.NDArray[np.int64]] = {}
        self._starts: dict[str, int] = {}
        for row, name in enumerate(streams):
            self._words[name] = np.frombuffer(self._memory, np.int64, WORDS, row * _stride())
            self._starts[name] = row * _stride() + 8 * WORDS
        self._open: defaultdict[str, dict[Key, bytes]] = defaultdict(dict)

    @classmethod
    def create(cls, streams: tuple[str, ...]) -> Self:
        """An empty one; ConfigError where there is too little memory."""
        return cls(streams, shared_file(_stride() * len(streams), "what has been announced"))

    def __reduce__(self) -> tuple[Callable[..., "Journal"], tuple[tuple[str, ...], object]]:
        # Only while a child process is being started: the file goes with it.
        return _opened, (self._streams, reduction.DupFd(self._fd))

    def reached(self, stream: str, seq: int, at_ns: int) -> None:
        """Frame ``seq`` of the Unix time ``at_ns`` is about to be published."""
        self._words[stream][LAST] = seq, at_ns

    def announcing(self, events: Iterable[EventMessage]) -> None:
        """These are about to be published: what begins with them may have to be ended."""
        changed = set()
        for event in events:
            if event.event in _BEGINS:
                self._open[event.stream][_key(event)] = _encoder.encode(_as_open(event))
                changed.add(event.stream)
        for stream in changed:
            self._write(stream)

    def announced(self, events: Iterable[EventMessage]) -> None:
        """They were: what ended with them need not be ended again."""
        changed = set()
        for event in events:
            if event.event in _ENDS and self._open[event.stream].pop(_key(event), None) is not None:
                changed.add(event.stream)
        for stream in changed:
            self._write(stream)

    def left(self, cause: Cause) -> list[EventMessage]:
        """The ends that a dead process owes; what only it knew, such as paths, is not in them."""
        return [event for stream in self._streams for event in self._left(stream, cause)]

    def clear(self) -> None:
        """They have been told."""
        for stream in self._streams:
            self._open[stream].clear()
            self._write(stream)

    def close(self) -> None:
        """Give the file back; the memory goes when nothing points into it any more."""
        os.close(self._fd)

    def _write(self, stream: str) -> None:
        words, things, size = self._words[stream], [], 5
        for thing in self._open[stream].values():
            size += len(thing)
            if size > ROOM:
                break
            things.append(thing)
        body = b"".join((b"\xdd", len(things).to_bytes(4), *things))  # array 32 of the MessagePack specification
        version = int(words[VERSION]) + 1
        start = self._starts[stream] + version % 2 * ROOM
        self._memory[start : start + len(body)] = body
        words[SIZE][version % 2] = len(body)
        words[VERSION] = version  # last: from here on it counts

    def _left(self, stream: str, cause: Cause) -> list[EventMessage]:
        words = self._words[stream]
        room = int(words[VERSION]) % 2
        size = int(words[SIZE][room])
        if not size:
            return []
        start = self._starts[stream] + room * ROOM
        seq, at = int(words[LAST][0]), timestamp(int(words[LAST][1]))
        # What began last ends first: an object leaves its zones before it ends, and a face loses its name.
        things = reversed(_decoder.decode(self._memory[start : start + size]))
        return [_end(thing, stream, seq, at, cause) for thing in things]


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
        last_seen=at,
        duration_s=None if thing.first_seen is None else _seconds(thing.first_seen, at),
        best_score=thing.best_score,
        cause=cause,
        name=thing.name,
    )


def _seconds(since: str, until: str) -> float:
    passed = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return round(max(0.0, passed.total_seconds()), 3)


def _key(event: EventMessage) -> Key:
    return event.kind, event.track, event.name


def _stride() -> int:
    return 8 * WORDS + 2 * ROOM


def _opened(streams: tuple[str, ...], fd: Any) -> Journal:
    return Journal(streams, fd.detach())
