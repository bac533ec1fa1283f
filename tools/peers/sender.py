"""What transports move: 1080p frames as decoded, from a process of its own."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SHAPE: Final = (1620, 1920)  # YUV 4:2:0 of 1920x1080 in one plane, 3.1 MB
PICTURES: Final = 16  # in turn: more than fits in a cache, as when each comes fresh from the decoder

Pixels = npt.NDArray[np.uint8]


def pictures() -> Iterator[Pixels]:
    """Noise, for ever."""
    random = np.random.default_rng(0)
    return cycle([random.integers(0, 256, SHAPE, np.uint8) for _ in range(PICTURES)])


@contextmanager
def sending(send: Callable[..., None], *arguments: Any) -> Iterator[int]:
    """Run ``send(*arguments)`` in a process of its own; its number. It is ended with the ``with``."""
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(send, *arguments), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        yield process.pid
    finally:
        process.terminate()
        process.join()


def _send(send: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send(*arguments)


def _end_with_parent() -> None:
    """A receiver that was killed ends nobody, and a sender without one would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
