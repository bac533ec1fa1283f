"""Batches under way on a GPU, with TensorRT or PyTorch: each has a slot of its own until its outputs are there."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Protocol

import structlog

from engines.arrays import Array, Pictures
from engines.backends.base import StartedEngine
from engines.errors import EngineError
from engines.planes import Planes, check_planes
from engines.spec import EntrySpec

log = structlog.get_logger()

DEPTH: Final = 2  # while the GPU computes one batch, the next one goes up

Outputs = dict[str, Array]


class Underway:
    """A batch whose memory is its own until it has been waited for.

    Args:
        finish: waits for it, gives its memory back and returns the entry's outputs; called once, whatever happens.
    """

    def __init__(self, finish: Callable[[], Outputs]) -> None:
        self._finish: Callable[[], Outputs] | None = finish

    def outputs(self) -> Outputs:
        """Wait for the batch and return the entry's outputs, batch first; to be called once.

        Raises:
            EngineError: the run failed.
        """
        if self._finish is None:
            raise EngineError("the outputs of this batch were taken already")
        finish, self._finish = self._finish, None
        return finish()

    def __del__(self) -> None:
        # The GPU still reads and writes the memory of a batch that is dropped.
        if self._finish is not None:
            try:
                self.outputs()
            except EngineError as error:
                log.warning("a dropped batch failed", error=str(error))


class BatchSlot(Protocol):
    """A stream, and the memory of one batch under way."""

    def start(self, batch: Pictures) -> None:
        """Copy a batch (N, H, W, 3), and begin to run it; EngineError where that fails."""
        ...

    def start_planes(self, pictures: Sequence[Planes]) -> None:
        """Letterbox decoded pictures on the GPU, and begin to run them; EngineError where that fails."""
        ...

    def outputs(self) -> Outputs:
        """Wait for the batch and copy what it gave; EngineError where the run failed."""
        ...

    def close(self) -> None:
        """Wait for what is under way and free everything; may be called twice."""
        ...


class SlotEngine(StartedEngine):
    """An engine on a GPU that gives each batch under way a slot, and uses it again for later ones.

    So the copies of one batch run beside the arithmetic of another. A slot in which something failed is closed.
    """

    depth = DEPTH

    def __init__(self, spec: EntrySpec) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._free: list[BatchSlot] = []
        self._closed = False

    def start(self, batch: Pictures) -> Underway:
        """Begin to run uint8 RGB pictures (N, H, W, 3).

        Raises:
            EngineError: the batch is not good, the library or CUDA fails, or the engine is closed.
        """
        self.spec.check(batch)
        return self._start(len(batch), lambda slot: slot.start(batch))

    def start_planes(self, pictures: Sequence[Planes]) -> Underway:
        """Begin to run pictures as they were decoded, one or more: PyTorch letterboxes them on the GPU.

        Raises:
            BackendUnavailable: there is no PyTorch for this GPU.
            EngineError: the batch is not good, a library or CUDA fails, or the engine is closed.
        """
        check_planes(pictures, self.spec)
        return self._start(len(pictures), lambda slot: slot.start_planes(pictures))

    def close(self) -> None:
        """Free the memory on the GPU, that of batches under way when they are done; may be called twice."""
        with self._lock:
            slots, self._free, self._closed = self._free, [], True
        for slot in slots:
            self._close(slot)

    @abstractmethod
    def _on_gpu(self) -> AbstractContextManager[object]:
        """Make this thread use the engine's GPU, under every setting that it computes with."""

    @abstractmethod
    def _new_slot(self) -> BatchSlot:
        """Return a new slot; EngineError where there is no room for it."""

    def _check_count(self, count: int) -> None:
        """Raise EngineError where the engine does not take batches of so many pictures."""

    def _start(self, count: int, begin: Callable[[BatchSlot], None]) -> Underway:
        if self._closed:
            raise EngineError("the engine is closed")
        self._check_count(count)
        with self._on_gpu():
            with self._lock:
                slot = self._free.pop() if self._free else None
            slot = slot or self._new_slot()
            try:
                begin(slot)
            except BaseException:
                slot.close()  # it may be in any state
                raise
        return Underway(partial(self._finish, slot))

    def _finish(self, slot: BatchSlot) -> Outputs:
        """Wait for a batch and give its slot back."""
        with self._on_gpu():
            try:
                outputs = slot.outputs()
            except BaseException:
                slot.close()
                raise
        self._give_back(slot)
        return outputs

    def _give_back(self, slot: BatchSlot) -> None:
        with self._lock:
            if not self._closed:
                self._free.append(slot)
                return
        self._close(slot)

    def _close(self, slot: BatchSlot) -> None:
        with self._on_gpu():
            slot.close()
