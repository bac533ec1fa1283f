"""TensorRT: the engine that ``auto`` takes on NVIDIA GPUs.

What was shown without a GPU: the calls are those of the bindings of TensorRT 10 and 11 (their types are checked), and
they come in the right order and are cleaned up after (a stand-in runs the network behind the same interface). What only
a GPU can show: that TensorRT builds the network, how fast it is, and that its figures hold. tests/gpu does that.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import msgspec
import numpy as np
import structlog
import tensorrt as trt

from engines.backends import cuda
from engines.backends.trt_build import Building, build_engine, shapes
from engines.backends.trt_cache import EngineKey, cache_folder, cached, forget, is_cached, read_timing, write_timing
from engines.backends.trt_log import Log
from engines.backends.trt_network import tensorrt_network
from engines.backends.trt_slot import LoadedEngine, Slot, Tensor
from engines.backends.underway import DEPTH, SlotEngine
from engines.errors import BackendUnavailable, EngineError, ModelError
from engines.spec import INPUT, EntryName, EntrySpec, Model, Precision

log = structlog.get_logger()


class TensorRtEngine(SlotEngine):
    """An entry's network as a TensorRT engine, built at first and taken from the cache from then on.

    Each batch under way has a stream of its own, pinned memory to copy from and to, and memory on the GPU. Batches of a
    size that came before are one launch of a CUDA graph.
    """

    def __init__(
        self,
        model: Model,
        entry: EntryName,
        precision: Precision = "auto",
        *,
        gpu: int = 0,
        building: Building | None = None,
        cache: Path | None = None,
    ) -> None:
        """Load the engine from the cache, or build it; ``auto`` is f16.

        Args:
            model: the model.
            entry: which way into the network.
            precision: f32, f16 or int8; with int8, what the file leaves in float is f16.
            gpu: index among those that CUDA shows to this process.
            building: how to build what the cache does not have; by default with the defaults.
            cache: folder of built engines; by default :func:`engines.backends.trt_cache.cache_folder`.

        Raises:
            BackendUnavailable: there is no GPU that TensorRT can use, or it has no such precision.
            ModelError: the network is not there, TensorRT cannot run it, or it takes something else than pictures.
            EngineError: building or loading failed, as for lack of memory.
        """
        if precision not in ("auto", "f32", "f16", "int8"):
            raise BackendUnavailable(f"backend 'tensorrt' has precision 'f32', 'f16' or 'int8', not {precision!r}")
        super().__init__(model.spec.entry(entry))
        self.backend = "tensorrt"
        self.precision: str = "f16" if precision == "auto" else precision
        self._gpu = gpu
        self._file = model.file(entry, precision, "tensorrt")
        device = cuda.open_device(gpu)
        self.device = f"{device.name} (GPU {gpu})"
        chosen: Precision = "f16" if precision == "auto" else precision
        self._loaded: LoadedEngine | None = _load(
            self._file, self.spec, chosen, device, building or Building(), cache or cache_folder()
        )
        self._check(model)
        try:
            for _ in range(DEPTH):
                self._give_back(self._new_slot())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the memory on the GPU, that of batches under way when they are done; may be called twice."""
        super().close()
        self._loaded = None

    @contextmanager
    def _on_gpu(self) -> Iterator[None]:
        cuda.use_device(self._gpu)
        yield

    def _check_count(self, count: int) -> None:
        if self._loaded is not None and count > self._loaded.most:
            raise EngineError(f"batch has {count} pictures, the engine was built for {self._loaded.most} at most")

    def _new_slot(self) -> Slot:
        if self._loaded is None:
            raise EngineError("the engine is closed")
        return Slot(self._loaded, self._file.name, self._gpu)

    def _check(self, model: Model) -> None:
        assert self._loaded is not None
        found = {each.name: np.dtype(each.dtype).name for each in self._loaded.inputs}
        if found != {INPUT: "uint8"}:
            raise ModelError(
                f"model {model.path}: {self._file.name} must take one input {INPUT!r} of uint8, it takes {found}"
            )


class _Runtime:
    """TensorRT's runtime, which loads engines, and its log."""

    def __init__(self) -> None:
        self.log = Log()
        try:
            self._runtime = trt.Runtime(self.log)
        except TypeError as error:  # what the bindings make of a null pointer
            raise BackendUnavailable(f"TensorRT cannot use a GPU here: {self.log.failure()}") from error
        self._runtime.engine_host_code_allowed = True  # version-compatible engines hold some; only our own are loaded

    def load(self, plan: bytes) -> LoadedEngine | None:
        """Load an engine; None where TensorRT does not take it."""
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            log.info("TensorRT does not load an engine", why=self.log.failure())
            return None
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        given = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        # The engine knows what stands in the file, where a side may be computed; a context computes it.
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise EngineError(f"TensorRT cannot prepare to run an engine: {self.log.failure()}")
        for name in given:
            context.set_input_shape(name, engine.get_tensor_profile_shape(name, 0)[2])
        tensors = {name: _tensor(engine, context, name) for name in names}
        inputs = tuple(tensors.pop(name) for name in given)
        most = context.get_tensor_shape(given[0])[0]
        return LoadedEngine(self._runtime, engine, self.log, inputs, tuple(tensors.values()), most)


def _load(
    file: Path, spec: EntrySpec, precision: Precision, device: cuda.Device, how: Building, cache: Path
) -> LoadedEngine:
    """Return the engine from the cache, or build it."""
    network = tensorrt_network(file, precision, (spec.height, spec.width))
    exact = EngineKey(
        network=hashlib.sha256(network).hexdigest(),
        tensorrt=trt.__version__,
        gpu=device.name,
        capability=device.capability,
        precision=precision,
        shapes=shapes(spec, how.batches),
        version_compatible=False,
    )
    major = trt.__version__.split(".")[0]
    lasting = msgspec.structs.replace(exact, tensorrt=f"{major}.x", version_compatible=True)
    if how.version_compatible:
        forget(cache, exact)  # it would be taken before the one that was asked for
    key = lasting if how.version_compatible or (is_cached(cache, lasting) and not is_cached(cache, exact)) else exact

    def build() -> bytes:
        log.info(
            "building a TensorRT engine, which takes minutes", file=file.name, precision=precision, gpu=device.name
        )
        plan, timing = build_engine(network, file.name, spec, precision, how, read_timing(cache, exact))
        write_timing(cache, exact, timing)
        return plan

    return cached(cache, key, build, _Runtime().load)


def _tensor(engine: trt.ICudaEngine, context: trt.IExecutionContext, name: str) -> Tensor:
    types: dict[trt.DataType, type[np.generic]] = {
        trt.DataType.FLOAT: np.float32,
        trt.DataType.HALF: np.float16,
        trt.DataType.INT32: np.int32,
        trt.DataType.INT64: np.int64,
        trt.DataType.UINT8: np.uint8,
        trt.DataType.BOOL: np.bool_,
    }
    dtype = engine.get_tensor_dtype(name)
    if dtype not in types:
        raise ModelError(f"tensor {name!r} of the engine is {dtype}, which no array of NumPy holds")
    shape = context.get_tensor_shape(name)[1:]
    if min(shape, default=0) < 0:
        raise ModelError(f"tensor {name!r} of the engine is (N, {', '.join(map(str, shape))}), -1 for an unknown side")
    return Tensor(name, types[dtype], shape, prod(shape) * np.dtype(types[dtype]).itemsize)
