"""What joins two steps in two processes: ZeroMQ for what is small, a ring for the pixels."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import zmq

from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import BatchTiming, Carrier, CropsSeen, Health, Ticket
from pipeline.runtime.graph import ProcessPlan
from pipeline.runtime.ring import Gone, Ring, accept, hand_over, take_back
from pipeline.runtime.transfer import input_ticket, pack, unpack
from pipeline.settings.schema import StreamSettings

# Never reached: there are fewer slots for frames. ZeroMQ would otherwise choose a bound of its own.
HIGH_WATER_MARK = 1000
END_NOTICED_MS = 50  # after so long at the most
RECONNECT_MS = 20

T = TypeVar("T", bound=Carrier)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """A stream came up, went down or ended, with its frame counts at that moment."""

    report: Health
    account: FrameCounts


@dataclass(frozen=True, slots=True)
class StreamBegun:
    """A stream was added, or its settings changed."""

    settings: StreamSettings


@dataclass(frozen=True, slots=True)
class ShardRestarted:
    """The process of a shard was started again: the tracks of its streams are lost."""

    shard: int


ControlMessage = HealthReport | StreamBegun | ShardRestarted | BatchTiming | CropsSeen


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The number of a process in its run, and what it shares with the others."""

    number: int
    frames: Ring  # decoded pictures
    inputs: Ring  # batches of pixels for the network
    folder: str  # of the sockets; nobody else may enter it
    plan: ProcessPlan = field(default_factory=ProcessPlan)

    def address(self, number: int) -> str:
        """Return the address at which process ``number`` receives."""
        return f"ipc://{self.folder}/{number}"


class Sender(Generic[T]):
    """Sends items, and the ownership of their slots, to another process. For one thread at a time."""

    def __init__(self, context: WorkerContext, to: int) -> None:
        self._context, self._to = context, to
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)  # the receiving process may be restarted
        self._socket.connect(context.address(to))

    def put(self, item: T, *, more: bool = False) -> None:
        """Hand an item over; the caller holds its pixels no longer, unless this raises.

        Args:
            item: what is sent.
            more: whether other parts of its batch come after it: the caller goes on holding the network's input.
        """
        context, holds = self._context, _holds(self._context, item)
        parts = pack(item)
        hand_over(context.number, self._to, holds, kept=context.inputs if more else None)
        try:
            self._socket.send_multipart(parts)
        except BaseException:
            with suppress(Gone):
                take_back(context.number, self._to, holds)
            raise

    def tell(self, message: ControlMessage) -> None:
        """Send a control message, which the receiver passes to its callback."""
        self._socket.send_multipart([pickle.dumps(message)])

    def close(self) -> None:
        """Close the socket once everything that was put has been sent."""
        self._socket.close()

    def discard(self) -> None:
        """Close the socket at once, and drop what was not sent yet."""
        self._socket.close(linger=0)


class Receiver(Generic[T]):
    """Receives items from other processes until this one is shut and nothing is on its way. For one thread.

    Args:
        context: of this process.
        heard: called with each control message.
    """

    def __init__(self, context: WorkerContext, heard: Callable[[ControlMessage], None] = lambda message: None) -> None:
        self._context, self._heard = context, heard
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        self._socket.bind(context.address(context.number))

    def __iter__(self) -> Iterator[T]:
        while True:
            if not self.ready(END_NOTICED_MS):
                if self._over():
                    return
                continue
            thing = self._receive()
            if isinstance(thing, ControlMessage):
                self._heard(thing)
            elif self._take(thing):
                yield thing

    def ready(self, timeout_ms: int = 0) -> bool:
        """Return whether something has arrived within ``timeout_ms``."""
        return bool(self._socket.poll(timeout_ms))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _over(self) -> bool:
        context = self._context
        return context.frames.is_shut(context.number) and not (
            context.frames.pending(context.number) or context.inputs.pending(context.number)
        )

    def _receive(self) -> T | ControlMessage:
        """Return the next item or message; if it cannot be decoded, give up all slots on their way: any may be its."""
        context, parts = self._context, self._socket.recv_multipart()
        try:
            return unpack(parts, context.frames, context.inputs)  # type: ignore[no-any-return]
        except BaseException:
            with context.frames.lock:
                context.frames.refuse(context.number)
                context.inputs.refuse(context.number)
            raise

    def _take(self, item: T) -> bool:
        """Take over an item's slots; if some were given up on their way, drop its other frames and return False."""
        context, holds = self._context, _holds(self._context, item)
        try:
            accept(context.number, holds)
        except Gone:
            for ring, tickets in holds:
                ring.release(context.number, tickets, "crash")
            return False
        return True


def _holds(context: WorkerContext, item: Carrier) -> list[tuple[Ring, list[Ticket]]]:
    """Return the slots of an item in each ring."""
    ticket = input_ticket(item)
    frames = [_ticket(frame.ticket) for frame in item.frames]
    return [(context.frames, frames), (context.inputs, [] if ticket is None else [ticket])]


def _ticket(ticket: Ticket | None) -> Ticket:
    assert ticket is not None, "the frame is not in shared memory"
    return ticket
