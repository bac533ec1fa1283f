"""Keeps a stage running: restarts it when it crashes, and counts the frames it held."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import structlog

from engines.errors import StageError, one_line
from pipeline.frames.types import Carrier, Frame
from pipeline.runtime.link import LinkClosed
from pipeline.runtime.pulse import Pulse, Work
from pipeline.settings.schema import StreamSettings

MAX_CRASHES = 5  # within a minute; one more ends the run
WINDOW_S = 60.0
HURRY_S = 2.0  # that threads and processes have to end once they are told to, besides what they must wait for

In = TypeVar("In", bound=Carrier)
Out = TypeVar("Out", bound=Carrier)
log = structlog.get_logger()


class CrashLimit:
    """Whether a stage that crashes may start again; pure.

    >>> limit = CrashLimit()
    >>> [limit.allows(float(second)) for second in range(6)]
    [True, True, True, True, True, False]
    """

    def __init__(self) -> None:
        self._crashes: deque[float] = deque(maxlen=MAX_CRASHES)

    def allows(self, now_s: float) -> bool:
        """Note a crash at ``now_s`` seconds; False when it is one too many."""
        allowed = len(self._crashes) < MAX_CRASHES or now_s - self._crashes[0] > WINDOW_S
        self._crashes.append(now_s)
        return allowed


class Held:
    """The frames that went into a stage and have not come out."""

    def __init__(self, dropped: Callable[[Frame, str], None]) -> None:
        self._frames: dict[tuple[str, int], Frame] = {}
        self._dropped = dropped

    def watch(self, items: Iterable[In]) -> Iterator[In]:
        """Pass items on, noting their frames."""
        for item in items:
            self.note(item)
            yield item

    def note(self, item: Carrier) -> None:
        """An item's frames are in the stage's hands."""
        self._frames.update(((frame.stream, frame.seq), frame) for frame in item.frames)

    def release(self, item: Carrier) -> None:
        """An item came out."""
        for frame in item.frames:
            self._frames.pop((frame.stream, frame.seq), None)

    def drop(self, cause: str) -> int:
        """Tell of all that is held as dropped; returns how many frames that were."""
        for frame in self._frames.values():
            self._dropped(frame, cause)
        count = len(self._frames)
        self._frames.clear()
        return count


class Feed(Generic[In]):
    """Items of what ``begin`` opens, which is opened again after it has raised.

    Args:
        begin: opens it; None: there is nothing to read, because the stage makes its items itself.
        work: of the stage, which is at an item from getting it until it asks for the next.
    """

    def __init__(self, begin: Callable[[], Iterable[In]] | None, work: Work) -> None:
        self._work = work
        self._begin: Callable[[], Iterable[In]] = begin or tuple
        self._items: Iterator[In] | None = None
        self.over = begin is None  # it ended by itself

    def __iter__(self) -> Iterator[In]:
        return self

    def __next__(self) -> In:
        self._work.rest()
        try:
            if self._items is None:
                self._items = iter(self._begin())
            item = next(self._items)
        except StopIteration:
            self.over = True
            raise
        except BaseException:
            self._items = None  # a generator that has raised would only say that it is at its end
            raise
        self._work.begin()
        return item


def supervise(
    name: str,
    stage: Callable[[Iterator[In]], Iterator[Out]],
    incoming: Callable[[], Iterable[In]] | None,
    hand_on: Callable[[Out], None],
    dropped: Callable[[Frame, str], None],
    pulse: Pulse | None = None,
) -> None:
    """Pass ``incoming`` items through a stage, and hand on what it gives, until there are no more.

    A crash, of the stage or of either end of it, drops the frames that the stage held, with the cause ``crash``, and
    starts it anew; an inlet that raised is opened again. A stage that ends before its inlet has crashed, too. When the
    outlet is closed the frames are dropped with the cause ``shutdown``. ``dropped`` is told of each.

    Args:
        name: of the stage, for logs and errors.
        stage: the generator function.
        incoming: opens what it reads; None for a source, which reads nothing and ends when it likes.
        hand_on: takes what comes out.
        dropped: told of each frame that is lost, and its cause.
        pulse: of the process, if somebody watches it.

    Raises:
        StageError: more than MAX_CRASHES crashes within a minute; the last one is its cause.
    """
    limit, held = CrashLimit(), Held(dropped)
    with (pulse or Pulse()).stage() as work:
        source = Feed(incoming, work)
        while True:
            try:
                for item in stage(held.watch(source)):
                    held.note(item)  # capture makes frames from nothing
                    with work.paused():
                        hand_on(item)
                    held.release(item)
                if not source.over:
                    raise StageError(f"stage {name!r} ended though there was more to do")
            except LinkClosed:
                held.drop("shutdown")
                return
            except Exception as error:  # whatever a stage does, the other streams and frames go on
                lost = held.drop("crash")
                log.exception("stage crashed", stage=name, error=one_line(error), frames_lost=lost)
                if not limit.allows(time.monotonic()):
                    raise StageError(
                        f"stage {name!r} crashed more than {MAX_CRASHES} times in a minute: {error}"
                    ) from error
                continue
            held.drop("crash")  # a stage that swallows frames has a bug, and the books must show it
            return


def until_over(frames: Iterable[Frame], over: Callable[[], bool]) -> Iterator[Frame]:
    """Pass on what a source gives.

    Raises:
        StageError: at its end, unless ``over`` says that the run was stopped or the source said that it ends.
    """
    yield from frames
    if not over():
        raise StageError("the source ended, and neither was stopped nor said why")


def source_patience_s(streams: Iterable[StreamSettings]) -> float:
    """How long a stopped run waits for its sources: a read ends with its timeout, or hangs."""
    return HURRY_S + max((stream.timeout_s for stream in streams), default=0.0)


class StageThreads:
    """Threads of a run. The first failure is kept and told once."""

    def __init__(self, on_failure: Callable[[], object]) -> None:
        self._threads: list[threading.Thread] = []
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self.failure: BaseException | None = None

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Run ``work`` in a thread. For one thread at a time."""
        thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()]  # streams come and go while a run lasts
        thread.start()
        self._threads.append(thread)
        return thread

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # a thread's end must reach the run, whatever it was
            with self._lock:
                first = self.failure is None
                self.failure = self.failure or error
            if first:
                self._on_failure()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for all threads; False when ``timeout_s`` passed first."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not self.running()

    def running(self) -> list[str]:
        """The names of the threads that have not ended."""
        return [thread.name for thread in self._threads if thread.is_alive()]
