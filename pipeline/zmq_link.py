"""What joins two steps in two processes: ZeroMQ for what is small, a ring for the pixels."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import zmq

from pipeline.metrics import Account
from pipeline.ring import Gone, Ring, accept, hand_over, take_back
from pipeline.transfer import input_ticket, pack, unpack
from pipeline.types import Carrier, Health, Ran, Ticket

# Slots bound what is on its way, so this never does; it is there because every queue is bounded.
HIGH_WATER_MARK = 1000
END_NOTICED_MS = 50  # after so long at the most
RECONNECT_MS = 20

T = TypeVar("T", bound=Carrier)


@dataclass(frozen=True, slots=True)
class Happened:
    """What happened to a stream, with its books at that moment."""

    report: Health
    account: Account


Word = Happened | Ran


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands in a run."""

    number: int
    frames: Ring  # decoded pictures
    inputs: Ring  # batches of pixels for the network
    folder: str  # of the sockets; nobody else may enter it

    def address(self, number: int) -> str:
        """Where process ``number`` listens."""
        return f"ipc://{self.folder}/{number}"


class Outlet(Generic[T]):
    """Sends items to another process, and what they hold with them. For one thread."""

    def __init__(self, place: Place, to: int) -> None:
        self._place, self._to = place, to
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)  # the other end may be started again
        self._socket.connect(place.address(to))

    def put(self, item: T) -> None:
        """Hand an item over; the caller holds its pixels no longer, unless this raises."""
        place, holds = self._place, _holds(self._place, item)
        parts = pack(item)
        hand_over(place.number, self._to, holds)
        try:
            self._socket.send_multipart(parts)
        except BaseException:
            with suppress(Gone):
                take_back(place.number, self._to, holds)
            raise

    def tell(self, word: Word) -> None:
        """Send what is no item: who receives it hears it apart."""
        self._socket.send_multipart([pickle.dumps(word)])

    def close(self) -> None:
        """What was put is still sent."""
        self._socket.close()

    def discard(self) -> None:
        """Close at once: nobody needs what was not sent yet."""
        self._socket.close(linger=0)


class Inlet(Generic[T]):
    """Receives what other processes send to this one, until it is shut and nothing is on its way. For one thread.

    Args:
        place: of this process.
        heard: called with every word that is no item.
    """

    def __init__(self, place: Place, heard: Callable[[Word], None] = lambda word: None) -> None:
        self._place, self._heard = place, heard
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        self._socket.bind(place.address(place.number))

    def __iter__(self) -> Iterator[T]:
        while True:
            if not self.ready(END_NOTICED_MS):
                if self._over():
                    return
                continue
            thing = self._receive()
            if isinstance(thing, Word):
                self._heard(thing)
            elif self._take(thing):
                yield thing

    def ready(self, timeout_ms: int = 0) -> bool:
        """Whether something has arrived."""
        return bool(self._socket.poll(timeout_ms))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _over(self) -> bool:
        place = self._place
        return place.frames.is_shut(place.number) and not (
            place.frames.pending(place.number) or place.inputs.pending(place.number)
        )

    def _receive(self) -> T | Word:
        """The next thing; when it cannot be read, all that is on its way here is given up: it may be any of it."""
        place, parts = self._place, self._socket.recv_multipart()
        try:
            return unpack(parts, place.frames, place.inputs)  # type: ignore[no-any-return]
        except BaseException:
            with place.frames.lock:
                place.frames.refuse(place.number)
                place.inputs.refuse(place.number)
            raise

    def _take(self, item: T) -> bool:
        """Note that an item has arrived; what is left of one that was given up on its way is dropped."""
        place, holds = self._place, _holds(self._place, item)
        try:
            accept(place.number, holds)
        except Gone:
            for ring, tickets in holds:
                ring.release(place.number, tickets, "crash")
            return False
        return True


def _holds(place: Place, item: Carrier) -> list[tuple[Ring, list[Ticket]]]:
    """What an item holds in each ring."""
    ticket = input_ticket(item)
    frames = [_ticket(frame.ticket) for frame in item.frames]
    return [(place.frames, frames), (place.inputs, [] if ticket is None else [ticket])]


def _ticket(ticket: Ticket | None) -> Ticket:
    assert ticket is not None, "the frame is not in shared memory"
    return ticket
