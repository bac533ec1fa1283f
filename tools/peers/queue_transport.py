"""``multiprocessing.Queue`` as the way of frames from one process to another."""

import multiprocessing
from collections.abc import Iterator
from itertools import cycle
from multiprocessing.queues import Queue
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tools.benchmarking.processes import child
from tools.peers.measuring import Meter, arguments

SHAPE: Final = (1620, 1920)  # YUV 4:2:0 of 1920x1080 in one plane, 3.1 MB
PICTURES: Final = 16  # in turn: more than fits in a cache, as when each comes fresh from the decoder
WAITING: Final = 4  # frames at the most


def pictures() -> Iterator[npt.NDArray[np.uint8]]:
    """Give what transports move: noise, for ever."""
    random = np.random.default_rng(0)
    return cycle([random.integers(0, 256, SHAPE, np.uint8) for _ in range(PICTURES)])


def send(queue: "Queue[Any]") -> None:
    """Put frames until the process is ended."""
    for picture in pictures():
        queue.put(picture)


def main() -> None:
    """Receive."""
    meter = Meter(arguments(__doc__, source=False).parse_args().seconds)
    queue: Queue[Any] = multiprocessing.get_context("spawn").Queue(WAITING)
    with child(send, queue):
        queue.get()
        while meter.count():
            queue.get()
    meter.report(("numpy",), looks=False)


if __name__ == "__main__":
    main()
