"""The last packets of a stream, from a key frame on."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Kept(Protocol):
    """What a ring holds."""

    @property
    def key(self) -> bool:
        """Whether nothing before it is needed to decode it."""
        ...

    @property
    def time_s(self) -> float:
        """Stream time at which it is shown."""
        ...

    @property
    def nbytes(self) -> int:
        """What it takes."""
        ...


T = TypeVar("T", bound=Kept)


class PacketRing(Generic[T]):
    """Packets in the order in which they are decoded, the oldest of which are forgotten, a whole group at a time.

    A group goes from a key frame to the next. As many are kept as the last seconds need; never more than some bytes: a
    group that alone takes more is forgotten, and what follows it up to the next key frame is not taken.

    Args:
        seconds: stream time before the last packet that is kept at least, where there was so much.
        max_bytes: of all packets.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds, self._max_bytes = seconds, max_bytes
        self._groups: deque[list[T]] = deque()
        self.nbytes = 0

    def add(self, packet: T) -> None:
        """Take the next packet."""
        if packet.key:
            self._groups.append([])
        elif not self._groups:
            return
        self._groups[-1].append(packet)
        self.nbytes += packet.nbytes
        while len(self._groups) > 1 and self._groups[1][0].time_s <= packet.time_s - self._seconds:
            self._forget()
        while self._groups and self.nbytes > self._max_bytes:
            self._forget()

    def clear(self) -> None:
        """Forget all: what comes next cannot follow it."""
        self._groups.clear()
        self.nbytes = 0

    def since(self, time_s: float) -> Iterator[T]:
        """Yield the packets from the last key frame on that is shown by this stream time, or else from the first."""
        begin = 0
        for index, group in enumerate(self._groups):
            if group[0].time_s <= time_s:
                begin = index
        for group in list(self._groups)[begin:]:
            yield from group

    def newest(self) -> Iterator[T]:
        """Yield the packets from the last key frame on."""
        if self._groups:
            yield from self._groups[-1]

    def __iter__(self) -> Iterator[T]:
        for group in self._groups:
            yield from group

    def _forget(self) -> None:
        self.nbytes -= sum(packet.nbytes for packet in self._groups.popleft())
