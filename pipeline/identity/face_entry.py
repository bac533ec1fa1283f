"""The face entry of the network, apart from those who ask it: crops of several streams go through it together."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.engine import Engine

MAX_CROPS: Final = 16  # in one run, and so of one frame
ROOM: Final = 4 * MAX_CROPS  # crops that may wait
FACE_RUNS, FACE_CROPS, FACE_WORDS = 0, 1, 2  # of what a FaceQueue counts

Crops = npt.NDArray[np.uint8]  # (N, 112, 112, 3) RGB, aligned faces
Outputs = dict[str, npt.NDArray[np.generic]]  # (N, ...) by name


class FaceRequest:
    """Faces of one frame that the face entry is to be shown, and what it says of them. Thread-safe."""

    def __init__(self, crops: Crops) -> None:
        self.crops = crops
        self._outputs: Outputs | None = None
        self._answered = threading.Event()

    @property
    def answered(self) -> bool:
        """Whether there is an answer, or there will be none."""
        return self._answered.is_set()

    def answer(self, outputs: Outputs | None) -> None:
        """Give the answer; None: there is none, since the engine failed or the run is over."""
        self._outputs = outputs
        self._answered.set()

    def outputs(self) -> Outputs | None:
        """Wait for the answer and return it."""
        self._answered.wait()
        return self._outputs


class FaceBatch:
    """Requests that go through the network together; as a context: whatever is not answered within it never will be."""

    frames = ()  # it holds up no frame, see pipeline.frames.types.Carrier

    def __init__(self, requests: list[FaceRequest]) -> None:
        self.requests = requests

    @property
    def crops(self) -> Crops:
        """All their crops."""
        return np.concatenate([request.crops for request in self.requests])

    def answer(self, outputs: Outputs) -> None:
        """Give each request its rows."""
        start = 0
        for request in self.requests:
            end = start + len(request.crops)
            request.answer({name: rows[start:end] for name, rows in outputs.items()})
            start = end

    def __enter__(self) -> "FaceBatch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for request in self.requests:
            if not request.answered:
                request.answer(None)


class FaceQueue:
    """The face entry behind a bounded queue, for a thread of its own: :meth:`embed` the :meth:`batches`.

    Args:
        engine: of the face entry.

    Attributes:
        counts: int64 (FACE_WORDS,), perhaps in shared memory: calls of the engine so far, and faces embedded.
    """

    def __init__(self, engine: Engine) -> None:
        self.counts = np.zeros(FACE_WORDS, np.int64)
        self._engine = engine
        self._waiting: deque[FaceRequest] = deque()
        self._changed = threading.Condition()
        self._over = False

    def ask(self, crops: Crops, wait: bool) -> FaceRequest | None:
        """Let some faces wait for the engine. Once it is closed, nothing is answered.

        Args:
            crops: MAX_CROPS at the most.
            wait: until there is room for them; otherwise None where there is none.
        """
        request = FaceRequest(crops)
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._over or self._has_room(len(crops)))
            if self._over:
                request.answer(None)
            elif self._has_room(len(crops)):
                self._waiting.append(request)
                self._changed.notify_all()
            else:
                return None
        return request

    def _has_room(self, count: int) -> bool:
        return sum(len(request.crops) for request in self._waiting) + count <= ROOM

    def batches(self) -> Iterator[FaceBatch]:
        """What waits, MAX_CROPS at once, until it is closed."""
        while batch := self._next():
            yield FaceBatch(batch)

    def _next(self) -> list[FaceRequest]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._over)
            taken: list[FaceRequest] = []
            while self._waiting and sum(len(each.crops) for each in (*taken, self._waiting[0])) <= MAX_CROPS:
                taken.append(self._waiting.popleft())
            self._changed.notify_all()
            return taken

    def embed(self, batches: Iterable[FaceBatch]) -> Iterator[FaceBatch]:
        """Run the face entry over each batch, and answer its requests."""
        for batch in batches:
            with batch:
                crops = batch.crops
                outputs = self._engine.infer(crops)
                self._engine.spec.check_outputs(outputs, len(crops))
                batch.answer(outputs)
                self.counts += 1, len(crops)
            yield batch

    def close(self) -> None:
        """Nobody asks any more; what waits is not answered."""
        with self._changed:
            self._over = True
            rest = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for request in rest:
            request.answer(None)


class DirectFaces(FaceQueue):
    """The face entry in the thread of whoever asks."""

    def ask(self, crops: Crops, wait: bool) -> FaceRequest:
        """Embed some faces now."""
        request = FaceRequest(crops)
        for _ in self.embed([FaceBatch([request])]):
            pass
        return request
