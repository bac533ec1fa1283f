"""``trunkline doctor``: what this machine has, and what a pipeline would run on."""

import importlib
import importlib.metadata
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from engines.engine import BackendStatus, Choice, available, choose_backend, open_engine, why_precision
from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.hardware import Cpu, Gpu, cpu, memory_bytes, nvidia_gpus, nvidia_on_bus
from engines.spec import load_model
from pipeline.settings.schema import ModelSettings
from pipeline.sources.hwaccel import check_hardware
from tools.output import print_json

DEFAULT_MODEL = Path(ModelSettings().path)
SHARED_MEMORY = Path("/dev/shm")
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Library:
    """A library every pipeline needs."""

    name: str
    version: str | None  # None: it cannot be imported
    detail: str


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """The model folder that is used unless a configuration names another."""

    path: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Cuda:
    """What programs reach the GPUs through; None of what is not installed."""

    driver: str | None  # the newest CUDA version that it runs
    runtime: str | None  # of cuda-bindings, which TensorRT is used with
    torch: str | None  # that PyTorch was built with


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """All that ``doctor`` found."""

    ok: bool  # a pipeline can run
    trunkline: str | None
    python: str
    system: str
    cpu: Cpu
    memory_bytes: int
    shared_memory_bytes: int | None  # free in /dev/shm; None where there is none
    gpus: tuple[Gpu, ...]
    cuda: Cuda
    nvdec: Library  # what decodes videos on a GPU, where streams are to be decoded so
    libraries: tuple[Library, ...]
    backends: tuple[BackendStatus, ...]
    choice: Choice | None  # what backend = "auto" takes
    model: ModelHealth
    problems: tuple[str, ...]  # what keeps a pipeline from running
    advice: tuple[str, ...]  # what would make it faster


def doctor(
    model: Annotated[Path, typer.Option(help="Model folder to look at.")] = DEFAULT_MODEL,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what this machine has, which backend `auto` takes and why, and what is missing.

    Exits with 0 if a pipeline can run, else with 1.

    Example: trunkline doctor --json
    """
    report = examine(model)
    if json:
        print_json(report)
    else:
        _show(report, Console())
    if not report.ok:
        raise typer.Exit(1)


def examine(model: Path) -> DoctorReport:
    """Look at everything; takes a few seconds, as it imports every library and opens the model once."""
    libraries = (_pyav(), _opencv())
    backends = tuple(available())
    choice, no_choice = _choice()
    health = _model(model, choice)
    gpus = nvidia_gpus()
    problems = [f"{library.name}: {library.detail}" for library in libraries if library.version is None]
    problems += [no_choice] if no_choice else []
    problems += [] if health.ok else [health.detail]
    return DoctorReport(
        ok=not problems,
        trunkline=_version("trunkline"),
        python=platform.python_version(),
        system=platform.platform(),
        cpu=cpu(),
        memory_bytes=memory_bytes(),
        shared_memory_bytes=shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None,
        gpus=gpus,
        cuda=_cuda(),
        nvdec=_nvdec(),
        libraries=libraries,
        backends=backends,
        choice=choice,
        model=health,
        problems=tuple(problems),
        advice=tuple(_advice(backends, gpus)),
    )


def _choice() -> tuple[Choice | None, str]:
    try:
        return choose_backend(), ""
    except BackendUnavailable as error:
        return None, str(error)


def _model(path: Path, choice: Choice | None) -> ModelHealth:
    try:
        model = load_model(path)
        model.spec.entry("frame")  # no pipeline runs without it
        ran = []
        for entry in model.spec.network.entries if choice else ():
            with open_engine(model, entry, choice.backend if choice else "auto") as engine:
                why = why_precision(model, entry, choice.backend) if choice else ""
                told = f" ({why})" if why else ""
                ran.append(f"{entry} {engine.spec.width}x{engine.spec.height} runs in {engine.precision}{told}")
    except (ModelError, EngineError) as error:
        return ModelHealth(str(path), False, str(error))
    size = f"{model.spec.name}: {len(model.spec.objects)} object labels, {len(model.spec.scenes)} scenes"
    return ModelHealth(str(path), True, "; ".join([size, *ran]))


def _pyav() -> Library:
    try:
        av = importlib.import_module("av")
    except (ImportError, OSError) as error:
        return _missing("PyAV", "av", error)
    return Library("PyAV", av.__version__, f"FFmpeg {getattr(av, 'ffmpeg_version_info', 'of unknown version')}")


def _opencv() -> Library:
    try:
        cv2 = importlib.import_module("cv2")
    except (ImportError, OSError) as error:
        return _missing("OpenCV", "opencv-python-headless", error)
    return Library("OpenCV", cv2.__version__, f"{cv2.getNumThreads()} threads")


def _cuda() -> Cuda:
    driver = runtime = built = None
    with suppress(ImportError, OSError, EngineError):  # not installed, or no driver at all
        found = importlib.import_module("engines.backends.cuda").versions()
        driver, runtime = found[0] if found[0] != "0.0" else None, found[1]
    with suppress(ImportError, OSError):
        built = importlib.import_module("torch").version.cuda
    return Cuda(driver, runtime, built)


def _nvdec() -> Library:
    try:
        check_hardware("nvdec", 0)
    except BackendUnavailable as error:
        return Library("NVDEC", None, f"cannot be used: {error}")
    return Library("NVDEC", None, "decodes videos on GPU 0")


def _missing(name: str, package: str, error: Exception) -> Library:
    return Library(name, None, f"cannot be imported ({one_line(error)}); install it with: pip install {package}")


def _advice(backends: tuple[BackendStatus, ...], gpus: tuple[Gpu, ...]) -> list[str]:
    status = {backend.name: backend for backend in backends}
    advice = []
    if gpus and not status["tensorrt"].available:
        advice.append(f"TensorRT would be fastest on the {gpus[0].name}: {status['tensorrt'].detail}; see docs/gpu.md")
    if not gpus and nvidia_on_bus():
        advice.append("this machine has an NVIDIA GPU that no driver runs: install NVIDIA's; see docs/gpu.md")
    if not status["openvino"].available:
        advice.append(f"OpenVINO is the fastest backend for CPUs: {status['openvino'].detail}")
    return advice


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _show(report: DoctorReport, console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(report):
        table.add_row(name, text)
    console.print(table, markup=False)
    for problem in report.problems:
        console.print(f"A pipeline cannot run: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    for advice in report.advice:
        console.print(advice, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if report.ok:
        console.print("A pipeline can run.", style="green")


def _rows(report: DoctorReport) -> list[tuple[str, str]]:
    cores = f"{report.cpu.usable_cores} of {report.cpu.cores} cores"
    shared = report.shared_memory_bytes
    rows = [
        ("Trunkline", report.trunkline or "not installed; install it with: pip install -e ."),
        ("Python", report.python),
        ("System", report.system),
        ("CPU", ", ".join([report.cpu.name, cores, *report.cpu.instructions])),
        ("Memory", f"{report.memory_bytes / GIB:.1f} GiB"),
        ("/dev/shm", "none" if shared is None else f"{shared / GIB:.1f} GiB free"),
    ]
    rows += [("GPU", f"{gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}") for gpu in report.gpus]
    if report.gpus:
        parts = {"driver": report.cuda.driver, "cuda-bindings": report.cuda.runtime, "PyTorch": report.cuda.torch}
        rows.append(("CUDA", ", ".join(f"{name} {version or 'none'}" for name, version in parts.items())))
        rows.append((report.nvdec.name, ", ".join(filter(None, [report.nvdec.version, report.nvdec.detail]))))
    rows += [(library.name, f"{library.version or 'missing'}, {library.detail}") for library in report.libraries]
    for backend in report.backends:
        mark = "yes" if backend.available else "no"
        rows.append((backend.name, ", ".join(filter(None, [mark, backend.version, backend.detail]))))
    chosen = f"{report.choice.backend} ({report.choice.reason})" if report.choice else "none"
    return [*rows, ("auto takes", chosen), (f"Model {report.model.path}", report.model.detail)]
