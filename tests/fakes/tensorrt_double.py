"""TensorRT's Python interface over ONNX Runtime: what build and run are tested with where there is no GPU.

It is strict where TensorRT is: uint8 may be cast and nothing else, int8 must be symmetric, an engine loads in the
version that built it, memory must be given and large enough, outputs arrive when the stream is waited for. What it does
not show: that TensorRT's own parser and kernels take a network, and any figure of speed or rounding.

Only names that TensorRT's bindings have are in :func:`module`; a test compares them.
"""

import ctypes
import enum
import json
import types
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tests.fakes.cuda_double import Failed, Gpu, cudaError_t
from tests.fakes.parsed_network import ARRAYS, DataType, Onnx, ParserError, what_tensorrt_refuses


class TensorIOMode(enum.IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class BuilderFlag(enum.IntEnum):
    TF32 = 6
    VERSION_COMPATIBLE = 12


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class ExecutionContextAllocationStrategy(enum.IntEnum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


MIB = 2**20


@dataclass
class Machine:
    """What a test says of the machine, and what it wants to know afterwards."""

    gpu: Gpu
    version: str = "11.4.0.106"
    refused: dict[str, str] = field(default_factory=dict)  # kind of node -> what the parser says of it
    no_memory_to_build: bool = False
    no_context: bool = False
    run_fails: bool = False  # when it is enqueued
    gpu_fails: bool = False  # while it runs
    scratch: int = MIB
    calls: Counter[str] = field(default_factory=Counter)
    configs: list["IBuilderConfig"] = field(default_factory=list)


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self._made = True


class Dims(tuple):  # type: ignore[type-arg]
    """Shapes are tuples here: they compare and slice as TensorRT's do."""


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


@dataclass
class INetworkDefinition:
    _flags: int
    _onnx: bytes = b""


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[Dims]] = {}

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None:
        if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
            raise ValueError("Shape provided for min, opt, max are inconsistent")
        self._shapes[input] = [min, opt, max]


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._content)


class IBuilderConfig:
    def __init__(self) -> None:
        self.progress_monitor: Any = None
        self._flags = {BuilderFlag.TF32}
        self._limits: dict[MemoryPoolType, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._timing: ITimingCache | None = None

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._limits[pool] = pool_size

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._content == b"of another GPU" and not ignore_mismatch:
            return False
        self._timing = cache
        return True


def module(machine: Machine) -> types.ModuleType:
    """``tensorrt`` on a machine."""
    gpu = machine.gpu
    strongly_typed = 1 if machine.version.startswith("10.") else 0
    NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": strongly_typed})

    def needs_gpu(logger: ILogger) -> None:
        if not gpu.driver or not gpu.count:
            logger.log(Severity.ERROR, f"CUDA initialization failure with error: {35 if gpu.count else 100}")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            self._network, self._errors = network, []

        def parse(self, model: bytes, path: str | None = None) -> bool:
            try:
                parsed = onnx.load_from_string(model)
            except Exception:
                self._errors = [ParserError(None, "Failed to parse the ONNX model")]
                return False
            said = machine.refused
            refused = [ParserError(node, said[node.op_type]) for node in parsed.graph.node if node.op_type in said]
            self._errors = [*what_tensorrt_refuses(parsed), *refused]
            self._network._onnx = bytes(model)
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            needs_gpu(logger)
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            assert flags == 1 << strongly_typed, "precision would be TensorRT's choice"
            return INetworkDefinition(flags)

        def create_builder_config(self) -> IBuilderConfig:
            machine.configs.append(IBuilderConfig())
            return machine.configs[-1]

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
            machine.calls["built"] += 1
            if machine.no_memory_to_build:
                self._logger.log(Severity.ERROR, "[virtualMemoryBuffer.cpp] Cuda out of memory: 2 (out of memory)")
                return None
            monitor = config.progress_monitor
            assert monitor is None or monitor._made, "its base class was not made"
            for phase, parent in (("Building Engine", None), ("Tactic Selection", "Building Engine")):
                monitor.phase_start(phase, parent, 2)
                going = all(monitor.step_complete(phase, step) for step in range(2))
                monitor.phase_finish(phase)
                if not going:
                    self._logger.log(Severity.ERROR, "cancelled by the progress monitor")
                    return None
            if config._timing is not None:
                config._timing._content += b"timed"
            [profile] = config._profiles
            compatible = BuilderFlag.VERSION_COMPATIBLE in config._flags
            head = {"version": machine.version, "compatible": compatible, "shapes": profile._shapes}
            return IHostMemory(json.dumps(head).encode() + b"\n" + network._onnx)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            needs_gpu(logger)
            self._logger = logger
            self.engine_host_code_allowed = False

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
            head, _, content = bytes(serialized_engine).partition(b"\n")
            try:
                told = json.loads(head)
            except ValueError:
                self._logger.log(Severity.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed.")
                return None
            here, there = ([int(part) for part in each.split(".")] for each in (machine.version, told["version"]))
            fits = here == there or (told["compatible"] and here[0] == there[0] and here >= there)
            if not fits or (told["compatible"] and not self.engine_host_code_allowed):
                text = "The engine plan file is not compatible with this version of TensorRT, expecting library version"
                self._logger.log(Severity.ERROR, f"{text} {told['version']} got {machine.version}, please rebuild.")
                return None
            return ICudaEngine(self._logger, Onnx(content), told["shapes"])

    class ICudaEngine:
        def __init__(self, logger: ILogger, network: Onnx, shapes: dict[str, list[list[int]]]) -> None:
            self._logger, self._network, self._shapes = logger, network, shapes
            self._names = [*network.inputs, *network.outputs]

        @property
        def num_io_tensors(self) -> int:
            return len(self._names)

        @property
        def device_memory_size_v2(self) -> int:
            return machine.scratch

        def get_tensor_name(self, index: int) -> str:
            return self._names[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name in self._network.inputs else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> DataType:
            return {**self._network.inputs, **self._network.outputs}[name]

        def get_tensor_shape(self, name: str) -> Dims:
            return Dims(self._network.shapes[name])

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
            assert profile_index == 0
            return [Dims(shape) for shape in self._shapes[name]]

        def create_execution_context(
            self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
        ) -> "IExecutionContext | None":
            if machine.no_context:
                self._logger.log(Severity.ERROR, "createExecutionContext: out of memory")
                return None
            machine.calls["contexts"] += 1
            return IExecutionContext(self, strategy)

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine, strategy: ExecutionContextAllocationStrategy) -> None:
            self._engine = engine
            self._memory = strategy != ExecutionContextAllocationStrategy.USER_MANAGED
            self._shape: tuple[int, ...] | None = None
            self._addresses: dict[str, int] = {}

        def set_device_memory(self, memory: int, size: int) -> None:
            gpu.view(memory, size, [gpu.device])
            self._memory = size >= self._engine.device_memory_size_v2

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return name in self._engine._names

        def get_tensor_shape(self, name: str) -> Dims:
            network = self._engine._network
            if name in network.inputs:
                return Dims(self._shape or network.shapes[name])
            if self._shape is None:
                return Dims(network.shapes[name])
            return Dims((self._shape[0], *network.inner_shapes()[name]))

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = self._engine._shapes[name]
            if not all(a <= side <= b for a, side, b in zip(least, shape, most, strict=True)):
                self._engine._logger.log(Severity.ERROR, f"setInputShape: {shape} is not in the profile's range")
                return False
            self._shape = tuple(shape)
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert self._memory, "it has no memory for its activations"
            assert self._shape is not None, "the shape of its input was not set"
            assert self._addresses.keys() == set(self._engine._names), "a tensor has no address"
            if machine.run_fails:
                self._engine._logger.log(Severity.ERROR, "enqueueV3: Error Code 1: Cuda Runtime (invalid argument)")
                return False
            shape, addresses = self._shape, dict(self._addresses)
            gpu.stream(stream_handle).give(lambda: self._compute(shape, addresses))
            return True

        def _compute(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
            if machine.gpu_fails:
                raise Failed(cudaError_t.cudaErrorIllegalAddress)
            machine.calls["computed"] += 1
            network = self._engine._network
            [(name, kind)] = network.inputs.items()
            size = int(np.prod(shape)) * np.dtype(ARRAYS[kind]).itemsize
            held = gpu.view(addresses[name], size, [gpu.device])
            batch = np.frombuffer(bytes(held), ARRAYS[kind]).reshape(shape)
            for output, values in zip(network.outputs, network.session.run(None, {name: batch}), strict=True):
                raw = np.ascontiguousarray(values).tobytes()
                ctypes.memmove(gpu.view(addresses[output], len(raw), [gpu.device]), raw, len(raw))

    double = types.ModuleType("tensorrt")
    double.__version__ = machine.version  # type: ignore[attr-defined]
    public = (
        BuilderFlag, DataType, Dims, ExecutionContextAllocationStrategy, IBuilderConfig, IHostMemory, ILogger,
        INetworkDefinition, IOptimizationProfile, IProgressMonitor, ITimingCache, MemoryPoolType,
        NetworkDefinitionCreationFlag, ParserError, TensorIOMode,
        OnnxParser, Builder, Runtime, ICudaEngine, IExecutionContext,
    )  # fmt: skip
    for each in public:
        setattr(double, each.__name__, each)
    return double
