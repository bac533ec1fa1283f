"""A network -> a TensorRT engine, through TensorRT's ONNX parser; one code path for TensorRT 10 and 11."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import tensorrt as trt
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from engines.backends.trt_log import Log
from engines.errors import BackendUnavailable, EngineError, ModelError
from engines.spec import INPUT, EntrySpec, Precision

POLL_S: Final = 0.2  # how soon ctrl-C is seen while TensorRT builds


@dataclass(frozen=True, slots=True)
class Batches:
    """The batch sizes that an engine takes, and the one that it is tuned for."""

    least: int = 1
    best: int = 8
    most: int = 128


@dataclass(frozen=True, slots=True)
class Building:
    """How an engine is built."""

    batches: Batches = Batches()
    workspace: int = 0  # bytes that it may use beside its tensors; 0: all that the GPU has
    version_compatible: bool = False  # loads with later TensorRT versions of the same major one, and may be slower


def shapes(spec: EntrySpec, batches: Batches) -> tuple[tuple[int, ...], ...]:
    """Return the least, best and greatest shape of the input."""
    return tuple((count, spec.height, spec.width, 3) for count in (batches.least, batches.best, batches.most))


def build_engine(
    network: bytes, file: str, spec: EntrySpec, precision: Precision, building: Building, timing: bytes
) -> tuple[bytes, bytes]:
    """Build an engine; takes minutes, and shows how far it is.

    Args:
        network: from :func:`engines.backends.trt_network.tensorrt_network`.
        file: that it came from, for messages.
        spec: of the entry.
        precision: "f32" is computed without TF32.
        building: batch sizes and limits.
        timing: what :func:`engines.backends.trt_cache.read_timing` gave.

    Returns:
        The engine, and the timings with those of this build.

    Raises:
        BackendUnavailable: TensorRT finds no GPU.
        ModelError: it cannot run the network.
        EngineError: building failed, as it does where the GPU has too little memory.
    """
    log = Log()
    builder = new_builder(log)
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, log)
    if not parser.parse(network):
        raise ModelError(f"{file} cannot be run by TensorRT: {_parser_errors(parser)}")
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, spec, building.batches))
    if building.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, building.workspace)
    if building.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if precision == "f32":
        config.clear_flag(trt.BuilderFlag.TF32)
    cache = config.create_timing_cache(timing)
    if not config.set_timing_cache(cache, False):  # of another GPU or driver after all
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    with Shown(f"TensorRT builds {file}") as shown:
        config.progress_monitor = shown.monitor
        plan = shown.run(lambda: builder.build_serialized_network(definition, config))
    if plan is None:
        raise EngineError(f"TensorRT could not build {file}: {log.failure()}")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def new_builder(log: Log) -> trt.Builder:
    """Make TensorRT's builder, the first of its parts that needs a GPU.

    Raises:
        BackendUnavailable: it finds none that it can use.
    """
    try:
        return trt.Builder(log)
    except TypeError as error:  # what its bindings make of a null pointer
        raise BackendUnavailable(f"TensorRT cannot use a GPU here: {log.failure()}") from error


def _profile(builder: trt.Builder, spec: EntrySpec, batches: Batches) -> trt.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    least, best, most = (trt.Dims(shape) for shape in shapes(spec, batches))
    profile.set_shape(INPUT, least, best, most)
    return profile


def _parser_errors(parser: trt.OnnxParser) -> str:
    """Return what it could not parse, each with its node."""
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = f"node {error.node_name()!r} ({error.node_operator()}): " if error.node_name() else ""
        found.append(f"{node}{' '.join(error.desc().split())}")
    return "; ".join(dict.fromkeys(found)) or "its parser does not say why"


class Monitor(trt.IProgressMonitor):
    """Shows TensorRT's phases, each with its steps; called from any of its threads."""

    def __init__(self, progress: Progress) -> None:
        trt.IProgressMonitor.__init__(self)
        self.cancelled = False
        self._progress = progress
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Show a phase, inside another one or not."""
        with self._lock:
            self._tasks[phase_name] = self._progress.add_task(phase_name, total=num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Show that a step is done; return False to end the build."""
        with self._lock:
            if phase_name in self._tasks:
                self._progress.update(self._tasks[phase_name], completed=step + 1)
        return not self.cancelled

    def phase_finish(self, phase_name: str) -> None:
        """Hide a phase that is over, done or not."""
        with self._lock:
            task = self._tasks.pop(phase_name, None)
            if task is not None:
                self._progress.remove_task(task)


class Shown:
    """A build on the terminal, that ctrl-C ends."""

    def __init__(self, title: str) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._progress.add_task(title, total=None)
        self.monitor = Monitor(self._progress)

    def run(self, build: Callable[[], trt.IHostMemory | None]) -> trt.IHostMemory | None:
        """Build in a thread of its own: an exception in a call that comes from TensorRT would end this process."""
        with ThreadPoolExecutor(1, thread_name_prefix="tensorrt-build") as pool:  # waits for the build at its end
            building = pool.submit(build)
            try:
                while not wait([building], POLL_S).done:
                    pass
            except BaseException:
                self.monitor.cancelled = True
                raise
            return building.result()

    def __enter__(self) -> "Shown":
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()
