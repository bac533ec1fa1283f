"""Reads a source ahead, so that what comes in bursts can be shown evenly."""

import threading
from collections.abc import Callable, Iterator
from queue import Full, Queue
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_AHEAD: Final = 2000  # items
LOOK_S: Final = 0.1  # between two looks whether to stop


class ReadAhead(Generic[T]):
    """An iterator that a thread of its own reads, MAX_AHEAD items ahead; what it raises is raised in its place.

    Args:
        items: to read.
        done: called by that thread when it reads no more, which may be after :meth:`close`: a read may hang.
    """

    def __init__(self, items: Iterator[T], done: Callable[[], None]) -> None:
        self._done = done
        self._queue: Queue[tuple[T | None, BaseException | None]] = Queue(MAX_AHEAD)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(items,), name="read ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Read no more; what is being read is not waited for."""
        self._over.set()

    def _read(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                if not self._put(item, None):
                    return
            self._put(None, None)
        except Exception as error:  # it is raised where the items are read
            self._put(None, error)
        finally:
            self._over.wait()  # while they are used, so may be what they come from
            self._done()

    def _put(self, item: T | None, error: BaseException | None) -> bool:
        while not self._over.is_set():
            try:
                self._queue.put((item, error), timeout=LOOK_S)
                return True
            except Full:
                continue
        return False
