"""Slots in shared memory, who holds them, and the books of the frames in them.

With stages in processes of their own, a picture is written once, by the copy out of the decoder, and then stays where
it is: only a :class:`Ticket` of a few bytes goes from process to process. The memory is anonymous: it has no name in
``/dev/shm`` and is gone with the last process that has it open, however that one ends.

A slot is free when no process holds it. Whoever sends a ticket on gives its hold to the receiver in the same moment;
what a process held when it died is given up by :meth:`Ring.reclaim`, on its way or not, and a ticket to it that turns
up later is refused. Every change is made under a lock of the kernel's, which is free again when its owner dies, and is
ordered so that a process killed half-way leaves nothing that ``reclaim`` does not put right. The rings of a run share
that lock: what an item holds in several of them is handed over at once or not at all.
"""

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from engines.arrays import Pixels
from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import Mode, StreamStatus, Ticket
from pipeline.runtime.process_lock import ProcessLock
from pipeline.runtime.shared_file import SharedFile
from pipeline.runtime.stream_rows import StreamTable
from pipeline.settings.schema import InferenceRate

CAUSES: Final = ("stale", "crash", "shutdown", "lost", "undecodable", "damaged", "encrypted")
MAX_PROCESSES: Final = 63  # holders are bits of a word
PAGE: Final = mmap.PAGESIZE
_NOBODY: Final = -1
UNDER_WAY, WAITING, TOLD = 0, 1, 2  # a frame in a batch or behind it, before it is in one, and counted as published

Words = npt.NDArray[np.int64]


class Gone(Exception):
    """The slot of a ticket was given up, and may hold another picture by now."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a ring has room for."""

    slots: int
    slot_bytes: int
    streams: tuple[str, ...] = ()  # whose frames have books
    spare: int = 0  # streams that may be added

    @property
    def rows(self) -> int:
        """Of streams."""
        return len(self.streams) + self.spare

    @property
    def header_bytes(self) -> int:
        words = 2 * MAX_PROCESSES + 6 * self.slots + (4 + len(CAUSES)) * self.rows + StreamTable.words(self.rows)
        return _pages(8 * words)

    @property
    def stride(self) -> int:
        return _pages(self.slot_bytes)

    @property
    def total_bytes(self) -> int:
        return self.header_bytes + self.slots * self.stride


class Ring:
    """Shared slots. Hand it to a child process as an argument: there it is the same memory.

    Safe for the threads of a process, and between processes. ``me`` is always the number of the calling process, from 0
    to 62; whoever starts processes gives each a number of its own, and a number again only after :meth:`reclaim`.
    """

    def __init__(self, layout: Layout, file: SharedFile, lock: ProcessLock, first: bool = False) -> None:
        self.layout = layout
        self._first = first  # of those that share the lock: it closes it
        self.lock = lock  # held while anything changes; whoever holds it sees all rings that share it stand still
        self._file, self._memory = file, file.memory
        words = np.frombuffer(self._memory, np.int64, layout.header_bytes // 8)
        cut = _cutter(words)
        self._shut: Words = cut(MAX_PROCESSES)
        self._signs: Words = cut(MAX_PROCESSES)  # of life
        self._generation: Words = cut(layout.slots)
        self._holders: Words = cut(layout.slots)  # a bit for each process that holds the slot
        self._untaken: Words = cut(layout.slots)  # those of them that have not heard of it yet
        self._sender: Words = cut(layout.slots)  # who sent it to those
        self._stream: Words = cut(layout.slots)
        self._progress: Words = cut(layout.slots)  # of its frame: WAITING, UNDER_WAY, TOLD
        count = layout.rows
        self._reported: Words = cut(count)
        self._captured: Words = cut(count)
        self._published: Words = cut(count)
        self._dropped: Words = cut(count * len(CAUSES)).reshape(count, len(CAUSES))
        self._base: Words = cut(count)  # frames that earlier streams of the name gave
        self.streams = StreamTable(cut(StreamTable.words(count)), layout.streams)  # all that the run ever had

    @classmethod
    def create(cls, layout: Layout, what: str, lock: ProcessLock | None = None) -> Self:
        """Make an empty ring.

        Args:
            layout: its size.
            what: what will be in it, for the error.
            lock: of the rings of the same run; None: this is the first, and has a new one.

        Raises:
            ConfigError: there is not so much memory; it says how much is needed.
        """
        file = SharedFile.create(layout.total_bytes, what)
        try:
            return cls(layout, file, lock or ProcessLock(), first=lock is None)
        except BaseException:
            file.close()
            raise

    def __reduce__(self) -> tuple[type["Ring"], tuple[Layout, SharedFile, ProcessLock]]:
        return Ring, (self.layout, self._file, self.lock)

    # Frames, from capture to message.

    def claim(
        self, me: int, stream: str | None = None, most_waiting: int | None = None, most: int | None = None
    ) -> Ticket | None:
        """Take a free slot to write to; None where there is none.

        Args:
            me: the calling process.
            stream: whose frame it is for, which is counted as captured; None: not a frame.
            most_waiting: how many frames of the stream may wait for a batch; None: any number.
            most: how many slots its frames may have, wherever they are; None: any number.
        """
        row = _NOBODY if stream is None else self.streams.row(stream)
        with self.lock:
            held = self._holders != 0
            theirs = held & (self._stream == row)
            if most_waiting is not None and (theirs & (self._progress == WAITING)).sum() >= most_waiting:
                return None
            if most is not None and theirs.sum() >= most:
                return None
            free = np.flatnonzero(~held)
            if not len(free):
                return None
            slot = int(free[self._generation[free].argmin()])  # the one that rested longest
            if stream is not None:
                self._captured[row] += 1
            self._generation[slot] += 1
            self._stream[slot], self._untaken[slot] = row, 0
            self._progress[slot] = UNDER_WAY if stream is None else WAITING
            self._holders[slot] = 1 << me
            return Ticket(slot, int(self._generation[slot]))

    def miss(self, stream: str, cause: str, count: int = 1) -> None:
        """Frames were captured, and dropped before they had a slot."""
        row = self.streams.row(stream)
        with self.lock:
            self._captured[row] += count
            self._dropped[row, CAUSES.index(cause)] += count

    def pixels(self, ticket: Ticket) -> Pixels:
        """The memory of a slot (slot_bytes,) that the caller holds; only who claimed it may write."""
        start = self.layout.header_bytes + ticket.slot * self.layout.stride
        return np.frombuffer(self._memory, np.uint8, self.layout.slot_bytes, start)

    def batched(self, me: int, tickets: Sequence[Ticket]) -> None:
        """These frames no longer wait for a batch."""
        with self.lock:
            self._progress[self._check(me, tickets)] = UNDER_WAY

    def published(self, me: int, ticket: Ticket) -> None:
        """Count a frame as published whose picture the caller goes on holding; Gone if it was given up."""
        with self.lock:
            (slot,) = self._check(me, [ticket])
            self._published[self._stream[slot]] += 1
            self._progress[slot] = TOLD

    def release(self, me: int, tickets: Sequence[Ticket], cause: str | None = None) -> None:
        """Give slots back; Gone ones are passed over.

        A frame that is not counted yet is counted as published or, with a cause, as dropped.
        """
        with self.lock:
            for ticket in tickets:
                slot = ticket.slot
                if not self._has(me, ticket):
                    continue
                last = self._holders[slot] == 1 << me
                if last and (row := self._stream[slot]) != _NOBODY and self._progress[slot] != TOLD:
                    if cause is None:
                        self._published[row] += 1
                    else:
                        self._dropped[row, CAUSES.index(cause)] += 1
                self._untaken[slot] &= ~(1 << me)
                self._holders[slot] &= ~(1 << me)

    def pending(self, me: int) -> bool:
        """Whether something is on its way to the caller."""
        with self.lock:
            return bool((self._untaken & 1 << me).any())

    # Streams that come and go.

    def begin(self, stream: str, mode: Mode, shard: int = 0, rate: InferenceRate | None = None) -> None:
        """A stream comes, whose frames are counted behind those of earlier ones of its name.

        Raises:
            ConfigError: there is no room for its books.
        """
        with self.lock:
            row = self.streams.add(stream, mode, shard, rate)
            self._base[row] = self._captured[row]

    def seen(self, stream: str) -> tuple[int, int]:
        """How many frames earlier streams of this name gave, and how many this one did."""
        row = self.streams.row(stream)
        with self.lock:
            return int(self._base[row]), int(self._captured[row] - self._base[row])

    # Ends and crashes.

    def reclaim(self, process: int) -> dict[str, int]:
        """Give up what a process that is dead held, and what it had sent and was not taken yet.

        Returns:
            How many frames were lost, by stream.
        """
        with self.lock:
            theirs = 1 << process
            unheard = np.where(self._sender == process, self._untaken, 0)
            self._untaken &= ~(theirs | unheard)
            self._holders &= ~(theirs | unheard)
            return self._settle("crash")

    def refuse(self, me: int) -> dict[str, int]:
        """Give up what is on its way to the caller, who cannot read it; it is gone when it arrives.

        Returns:
            How many frames were lost, by stream.
        """
        with self.lock:
            theirs = 1 << me
            self._holders &= ~np.where(self._untaken & theirs != 0, theirs, 0)
            self._untaken &= ~theirs
            return self._settle("crash")

    def reclaim_all(self, cause: str) -> dict[str, int]:
        """Give up everything: no process is left."""
        with self.lock:
            self._untaken[:] = 0
            self._holders[:] = 0
            return self._settle(cause)

    def _settle(self, cause: str) -> dict[str, int]:
        """Count as dropped what was captured and is neither in a slot nor in the books."""
        lost = {}
        for row, name in enumerate(self.streams.names):
            held = ((self._holders != 0) & (self._stream == row) & (self._progress != TOLD)).sum()
            missing = int(self._captured[row] - self._published[row] - self._dropped[row].sum() - held)
            if missing > 0:
                self._dropped[row, CAUSES.index(cause)] += missing
                lost[name] = missing
        return lost

    def shut(self, process: int) -> None:
        """Tell a process that nothing more will be sent to it."""
        self._shut[process] = 1

    def open(self, process: int) -> None:
        """A process of this number begins anew."""
        self._shut[process] = 0

    def is_shut(self, process: int) -> bool:
        """Whether a process was told so."""
        return bool(self._shut[process])

    def beat(self, process: int, sign: int) -> None:
        """Note a process' sign of life, see :class:`pipeline.runtime.pulse.Pulse`."""
        self._signs[process] = sign

    def last_beat(self, process: int) -> int:
        """The last one."""
        return int(self._signs[process])

    def tell(self, stream: str, state: StreamStatus | None = None) -> None:
        """What happened to a stream was published; None: that it was added."""
        if state is not None:
            self.streams.told(stream, state)
        with self.lock:
            self._reported[self.streams.row(stream)] += 1

    def reported(self, stream: str) -> int:
        """How often something was."""
        return int(self._reported[self.streams.row(stream)])

    # The books.

    def of(self, stream: str) -> FrameCounts:
        """The books of one stream."""
        row = self.streams.row(stream)
        with self.lock:
            dropped = {cause: int(count) for cause, count in zip(CAUSES, self._dropped[row], strict=True) if count}
            return FrameCounts(int(self._captured[row]), int(self._published[row]), dropped)

    @property
    def waiting(self) -> int:
        """How many frames wait for a batch."""
        with self.lock:
            return int(((self._holders != 0) & (self._progress == WAITING)).sum())

    def sent_to(self, process: int) -> int:
        """How many slots are on their way to a process."""
        with self.lock:
            return int((self._untaken & 1 << process != 0).sum())

    def close(self) -> None:
        """Give the file back; the memory goes when nothing points into it any more."""
        self._file.close()
        if self._first:
            self.lock.close()

    def _check(self, me: int, tickets: Sequence[Ticket]) -> npt.NDArray[np.int64]:
        if not all(self._has(me, ticket) for ticket in tickets):
            raise Gone
        return np.array([ticket.slot for ticket in tickets], np.int64)

    def _has(self, me: int, ticket: Ticket) -> bool:
        slot = ticket.slot
        return bool(self._generation[slot] == ticket.generation and self._holders[slot] & 1 << me)


def hand_over(me: int, to: int, holds: Sequence[tuple[Ring, Sequence[Ticket]]], kept: Ring | None = None) -> None:
    """Give the caller's holds in rings of one lock to process ``to``, which will hear of them; all of them or none.

    What is in the ring ``kept`` is held by both from here on.

    Raises:
        Gone: one was given up.
    """
    with holds[0][0].lock:
        for ring, slots in [(ring, ring._check(me, tickets)) for ring, tickets in holds]:
            ring._sender[slots] = me
            ring._untaken[slots] |= 1 << to
            mine = 0 if ring is kept else 1 << me
            ring._holders[slots] = (ring._holders[slots] & ~mine) | 1 << to


def take_back(me: int, to: int, holds: Sequence[tuple[Ring, Sequence[Ticket]]]) -> None:
    """Undo :func:`hand_over`: process ``to`` will not hear of them; Gone, for all, if it has or one was given up."""
    with holds[0][0].lock:
        for ring, slots in [(ring, ring._check(to, tickets)) for ring, tickets in holds]:
            ring._holders[slots] = (ring._holders[slots] & ~(1 << to)) | 1 << me
            ring._untaken[slots] &= ~(1 << to)


def accept(me: int, holds: Sequence[tuple[Ring, Sequence[Ticket]]]) -> None:
    """Note that what was sent to the caller has arrived; Gone, for all, if any of it was given up on its way."""
    with holds[0][0].lock:
        for ring, slots in [(ring, ring._check(me, tickets)) for ring, tickets in holds]:
            ring._untaken[slots] &= ~(1 << me)


def _cutter(words: Words) -> Callable[[int], Words]:
    position = 0

    def cut(count: int) -> Words:
        nonlocal position
        position += count
        return words[position - count : position]

    return cut


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
