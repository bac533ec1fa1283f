"""Processes that use rings; in a file of their own, since each of them imports it."""

import os
import random
import signal
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from pipeline.frames.types import Ticket
from pipeline.runtime.ring import Gone, Ring, accept, hand_over
from pipeline.runtime.supervision import StageThreads

WRONG_PICTURE = 3  # exit status


def send(ring: Ring, me: int, tickets: Sequence[Ticket], to: int) -> None:
    hand_over(me, to, [(ring, tickets)])


def take(ring: Ring, me: int, tickets: Sequence[Ticket]) -> None:
    accept(me, [(ring, tickets)])


def held_by(ring: Ring, me: int) -> int:
    """How many slots a process holds, those on their way to it included."""
    with ring.lock:
        return int((ring._holders >> me & 1).sum())


def reader(ring: Ring, pipe: "Connection[Any, Any]", me: int) -> None:
    """Take tickets, check each picture, and release it; or die over it."""
    random.seed(me)
    while (ticket := pipe.recv()) is not None:
        try:
            take(ring, me, [ticket])
        except Gone:
            continue
        pixels = ring.pixels(ticket)
        if not (pixels == ticket.generation % 256).all():
            os._exit(WRONG_PICTURE)
        if random.random() < 0.01:
            os.kill(os.getpid(), signal.SIGKILL)
        ring.release(me, [ticket])


def busy_process(frames: Ring, inputs: Ring, me: int, rounds: int) -> None:
    """Use one ring, the other and both in a thread each; raise what one of them raises."""
    workers = StageThreads(lambda: None)
    workers.start("frames", partial(_use, [frames], me, rounds))
    workers.start("inputs", partial(_use, [inputs], me, rounds))
    workers.start("both", partial(_use, [frames, inputs], me, rounds))
    workers.join()
    if workers.failure is not None:
        raise workers.failure


def _use(rings: list[Ring], me: int, rounds: int) -> None:
    for _ in range(rounds):
        holds: list[tuple[Ring, list[Ticket]]] = []
        for ring in rings:
            ticket = ring.claim(me, *ring.layout.streams)
            assert ticket is not None, "a slot leaked"
            holds.append((ring, [ticket]))
        hand_over(me, me, holds)
        accept(me, holds)
        for ring, tickets in holds:
            ring.release(me, tickets)
