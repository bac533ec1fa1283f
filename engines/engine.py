"""The choice of a backend, and engines that are opened with it."""

import importlib
from dataclasses import dataclass

import numpy as np
import structlog

from engines import hardware
from engines.backends.base import BackendStatus, Engine, EngineOptions, Running, backend_names, find_backend
from engines.errors import BackendUnavailable, EngineError, ModelError
from engines.self_check import find, require
from engines.spec import Backend, EntryName, Model, Precision

__all__ = [
    "Backend",
    "BackendStatus",
    "Choice",
    "Engine",
    "Precision",
    "Running",
    "available",
    "backend_names",
    "choose_backend",
    "open_engine",
    "require_backend",
    "why_precision",
]

log = structlog.get_logger()

# What `auto` takes, best first: the order was measured, so a backend of another package is taken by its name alone.
# On a CPU PyTorch is the reference that the others are checked against, never a choice.
ON_GPU: tuple[Backend, ...] = ("tensorrt", "torch")
ON_CPU: tuple[Backend, ...] = ("openvino", "onnxruntime")
CHECK_PICTURES = 2  # more than one, so that a batch dimension of fixed size 1 shows


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend that ``auto`` takes, and why."""

    backend: Backend
    reason: str
    warning: str | None = None  # what a GPU that is not used, or not well, wants


def available() -> list[BackendStatus]:
    """Return every backend and whether it can run here. Imports their libraries, so it takes a second or two."""
    return [_status(name) for name in backend_names()]


def choose_backend() -> Choice:
    """What ``backend = "auto"`` takes here: TensorRT, else PyTorch on a GPU, else OpenVINO, else ONNX Runtime.

    Raises:
        BackendUnavailable: none of them can run.
    """
    gpus = hardware.nvidia_gpus()
    passed: list[str] = []
    for backend in (*ON_GPU, *ON_CPU):
        if backend == "torch" and not gpus:
            continue
        status = _torch_on_gpu() if backend == "torch" else _status(backend)
        if status.available:
            reason = "; ".join([*passed, f"{backend} {status.version}: {status.detail}"])
            idle = f"the GPU ({gpus[0].name}) is not used: {'; '.join(passed)}" if gpus and backend in ON_CPU else None
            return Choice(backend, reason, idle)
        passed.append(f"not {backend}: {status.detail}")
    raise BackendUnavailable(f"no backend can run on this machine: {'; '.join(passed)}")


def require_backend(backend: Backend) -> None:
    """Raise BackendUnavailable, with what is missing and what installs it, unless a backend can run here."""
    status = find_backend(backend).status()
    if not status.available:
        raise BackendUnavailable(f"backend {backend!r} cannot run: {status.detail}")


def open_engine(
    model: Model,
    entry: EntryName,
    backend: Backend = "auto",
    precision: Precision = "auto",
    *,
    gpu: int | None = None,
    torch_compile: bool = False,
) -> Engine:
    """Open an entry of a model, run it once and check that it gives what the spec says.

    Args:
        model: from :func:`engines.spec.load_model`.
        entry: which way into the network.
        backend: ``auto`` takes what :func:`choose_backend` says; a name means that backend and no other.
        precision: of the arithmetic. Parity is checked with ``f32``; ``int8`` needs a model that was compiled to it.
            ``auto`` is the fastest that holds on this processor (see :mod:`engines.self_check`) where the model has an
            int8 form for it, else what the backend says.
        gpu: index of the GPU that it must run on; None: the first, for the backends that run on one.
        torch_compile: let ``torch.compile`` make the kernels of backend ``torch``, which takes minutes at first.

    Raises:
        BackendUnavailable: the backend cannot run here, or has no such precision, or there is no such GPU.
        ModelError: the entry's file is not there, cannot be loaded, or its inputs or outputs are not those of the spec.
        EngineError: int8 was asked for, and what it says on this processor is too far from f32.
    """
    choice = choose_backend() if backend == "auto" else Choice(backend, "asked for by name")
    require_backend(choice.backend)
    if gpu is not None and choice.backend in ON_CPU:
        raise BackendUnavailable(f"gpu is {gpu}, but backend {choice.backend!r} runs on the CPU")
    if torch_compile and choice.backend != "torch":
        raise BackendUnavailable(f"torch_compile is true, but the backend is {choice.backend!r}: it must be 'torch'")
    if choice.warning:
        log.warning(choice.warning)
    why = choice.reason
    if choice.backend in ON_CPU and precision in ("auto", "int8"):
        precision, held = _held(model, entry, choice.backend, precision)
        why = "; ".join(filter(None, [why, held]))
    options = EngineOptions(precision, gpu, torch_compile)
    engine = find_backend(choice.backend).open(model, entry, options)
    try:
        _check_outputs(engine, model, entry, precision)
    except BaseException:
        engine.close()
        raise
    log.info(
        "engine opened",
        entry=entry,
        backend=engine.backend,
        precision=engine.precision,
        device=engine.device,
        why=why,
    )
    return engine


def why_precision(model: Model, entry: EntryName, backend: Backend) -> str:
    """Why ``precision = "auto"`` takes what it takes on this CPU; empty where the backend alone decides.

    Raises:
        ModelError: a file of the model cannot be loaded.
    """
    return _held(model, entry, backend, "auto")[1] if backend in ON_CPU else ""


def _held(model: Model, entry: EntryName, backend: Backend, asked: Precision) -> tuple[Precision, str]:
    """The precision to open an entry with on this CPU, and why; EngineError where the one asked for does not hold."""
    factory, model = find_backend(backend), model.at_reference  # whose pictures its self-check has
    finding = find(model, entry, backend, lambda precision: factory.open(model, entry, EngineOptions(precision)))
    if finding is None:
        if asked == "int8" and model.spec.int8 is not None:
            log.warning("int8 was not checked on this processor: the model brings no pictures for it", entry=entry)
        return asked, ""
    if asked == "auto":
        return finding.taken, finding.reason
    require(finding, asked, model, entry)
    return asked, ""


def _check_outputs(engine: Engine, model: Model, entry: EntryName, precision: Precision) -> None:
    spec, count = engine.spec, CHECK_PICTURES
    # Where the outputs come from: the PyTorch engine alone does not run an ONNX file.
    owner: Backend | None = "tensorrt" if engine.backend == "tensorrt" else None
    file = (model.weights if engine.backend == "torch" else model.file(entry, precision, owner)).name
    try:
        outputs = engine.infer(np.zeros((count, spec.height, spec.width, 3), np.uint8))
    except EngineError as error:
        raise ModelError(f"model {model.path}: {file} does not run as spec.json says: {error}") from error
    found = {name: values.shape for name, values in outputs.items()}
    expected = {name: (count, *shape) for name, shape in spec.outputs.items()}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise ModelError(
                f"model {model.path}: {file} does not match spec.json: for {count} pictures output {name!r} of the "
                f"{entry} entry is {found.get(name, 'missing')}, expected {expected.get(name, 'no such output')}"
            )


def _status(backend: Backend) -> BackendStatus:
    try:
        return find_backend(backend).status()
    except BackendUnavailable as error:  # another package's, that cannot be imported
        return BackendStatus(backend, False, None, str(error))


def _torch_on_gpu() -> BackendStatus:
    status = _status("torch")
    if not status.available or importlib.import_module("torch").cuda.is_available():
        return status
    missing = "this PyTorch finds no GPU; one that does is installed with: pip install --force-reinstall torch"
    return BackendStatus("torch", False, status.version, missing)
