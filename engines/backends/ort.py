"""ONNX Runtime on the CPU: the portable engine."""

import concurrent.futures
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import onnxruntime

from engines.arrays import Array, Pictures
from engines.backends.base import StartedEngine
from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.hardware import usable_cores
from engines.spec import HEIGHT, INPUT, WIDTH, EntryName, Model, Precision

QUIET = 4  # errors reach the user as exceptions, and need not be on the terminal as well

Arrays = Sequence[Array]


class OnnxRuntimeEngine(StartedEngine):
    """An entry's ONNX file in ONNX Runtime's CPU provider, in the precision of the file: f32 or int8.

    A run takes one core, as many of them at a time as there are cores, and a batch is cut into runs. Cores that share
    a run wait for each other in every operator; ONNX Runtime's do so spinning, which takes them from decoding.
    """

    def __init__(self, model: Model, entry: EntryName, precision: Precision = "auto") -> None:
        """Load the entry.

        Raises:
            BackendUnavailable: another precision than ``auto`` (f32), ``f32`` or ``int8``.
            ModelError: the file is not there, cannot be loaded or takes something else than pictures.
        """
        if precision not in ("auto", "f32", "int8"):
            raise BackendUnavailable(f"backend 'onnxruntime' has precision 'f32' or 'int8', not {precision!r}")
        self.spec = model.spec.entry(entry)
        self.backend = "onnxruntime"
        self.precision = "int8" if precision == "int8" else "f32"
        file = model.file(entry, precision)
        self._file = file.name
        self.device = "CPU"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = 1
        for side, pixels in ((HEIGHT, self.spec.height), (WIDTH, self.spec.width)):  # what follows of them: once, now
            options.add_free_dimension_override_by_name(side, pixels)
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it raises a dozen types of its own that share only this base
            raise ModelError(f"model {model.path}: {self._file} cannot be loaded: {one_line(error)}") from error
        inputs = {node.name: node.type for node in session.get_inputs()}
        if inputs != {INPUT: "tensor(uint8)"}:
            raise ModelError(
                f"model {model.path}: {self._file} must take one input {INPUT!r} of uint8, it takes {inputs}"
            )
        self._cores = usable_cores()
        self.depth = max(2, self._cores)  # small batches need a core each; and one is at hand when another ends
        self._session: onnxruntime.InferenceSession | None = session
        self._names = [output.name for output in session.get_outputs()]
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix="onnxruntime")
        self._under_way: list[Future[Arrays]] = []

    def start(self, batch: Pictures) -> "OnnxRuntimeRun":
        """Begin to run uint8 RGB pictures (N, H, W, 3), which must not change before their outputs were returned.

        Raises:
            EngineError: the batch is not good, or the engine is closed.
        """
        if self._session is None:
            raise EngineError("the engine is closed")
        self.spec.check(batch)
        self._under_way = [run for run in self._under_way if not run.done()]
        idle = max(1, self._cores - len(self._under_way))
        runs = [
            self._pool.submit(self._session.run, None, {INPUT: part})
            for part in np.array_split(np.ascontiguousarray(batch), min(len(batch), idle))
        ]
        self._under_way += runs
        return OnnxRuntimeRun(self._file, self._names, runs)

    def close(self) -> None:
        """Free the session, once batches under way are done; may be called twice."""
        self._session = None
        self._pool.shutdown()


class OnnxRuntimeRun:
    """A batch under way: its runs, in the order of its pictures."""

    def __init__(self, file: str, names: list[str], runs: list[Future[Arrays]]) -> None:
        self._file, self._names, self._runs = file, names, runs

    def outputs(self) -> dict[str, Array]:
        """Wait for the batch and return the entry's outputs, batch first; to be called once.

        Raises:
            EngineError: the run failed.
        """
        runs, self._runs = self._runs, []
        if not runs:
            raise EngineError("the outputs of this batch were taken already")
        concurrent.futures.wait(runs)  # also where one fails: the others read the batch
        try:
            parts = [run.result() for run in runs]
        except Exception as error:  # as above
            raise EngineError(f"{self._file} failed in ONNX Runtime: {one_line(error)}") from error
        columns = zip(*parts, strict=True)
        return {name: np.concatenate(column) for name, column in zip(self._names, columns, strict=True)}
