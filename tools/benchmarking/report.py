"""All that was measured, on what, and with what: what ``trunkline benchmark --json`` prints."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import msgspec

from engines.errors import ConfigError
from engines.hardware import Cpu, Gpu, cpu, memory_bytes, nvidia_gpus
from engines.spec import Model
from engines.zoo import model_name
from tools.benchmarking.clip import BenchmarkClip
from tools.benchmarking.engine import EngineReport
from tools.benchmarking.pipeline import PipelineReport
from tools.benchmarking.post import PostFigures
from tools.benchmarking.predecoded import PredecodedReport
from tools.benchmarking.scaling import ScalingReport
from tools.benchmarking.streams import StreamsReport
from tools.benchmarking.transport import TransportFigures
from tools.benchmarking.video import DecodeFigures, PreprocessFigures

FORMAT: Final = 2
PACKAGES: Final = (
    "trunkline",
    "av",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pyzmq",
    "tensorrt",
    "torch",
)


class BenchmarkMachine(msgspec.Struct, frozen=True):
    """What it was measured on."""

    cpu: Cpu
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    system: str
    load: float  # processes that ran or waited to, on average in the minute before: near 0, or others were busy here


class ModelIdentity(msgspec.Struct, frozen=True):
    """Which model was measured."""

    path: str
    name: str
    fingerprint: str


class BenchmarkReport(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark; parts that were not asked for are left out."""

    format: Literal[2] = FORMAT
    at: str  # RFC 3339, UTC
    machine: BenchmarkMachine
    versions: dict[str, str | None]  # of Python and the packages; None: not installed
    model: ModelIdentity | None  # None: no part needed one
    clips: tuple[BenchmarkClip, ...] = ()  # none: no part needed one
    seconds: float  # for each part
    repeats: int  # that it was divided into; a spread is over them
    engine: EngineReport | msgspec.UnsetType = msgspec.UNSET
    decode: DecodeFigures | msgspec.UnsetType = msgspec.UNSET
    preprocess: PreprocessFigures | msgspec.UnsetType = msgspec.UNSET
    post: PostFigures | msgspec.UnsetType = msgspec.UNSET
    transport: TransportFigures | msgspec.UnsetType = msgspec.UNSET
    pipeline: PipelineReport | msgspec.UnsetType = msgspec.UNSET
    predecoded: PredecodedReport | msgspec.UnsetType = msgspec.UNSET
    streams: StreamsReport | msgspec.UnsetType = msgspec.UNSET
    scaling: ScalingReport | msgspec.UnsetType = msgspec.UNSET


def begin(model: Model | None, seconds: float, repeats: int) -> BenchmarkReport:
    """A report without measurements; clips and parts are put in by ``msgspec.structs.replace``."""
    return BenchmarkReport(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=BenchmarkMachine(
            cpu(), memory_bytes(), nvidia_gpus(), platform.platform(), round(os.getloadavg()[0], 2)
        ),
        versions={"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}},
        model=ModelIdentity(model_name(model.path), model.spec.name, model.fingerprint) if model else None,
        seconds=seconds,
        repeats=repeats,
    )


def load(path: Path) -> BenchmarkReport:
    """A report that was written before.

    Raises:
        ConfigError: the file cannot be read, or is no report of this format.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchmarkReport)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{path}: is not a report of trunkline benchmark --json in format {FORMAT}: {error}"
        ) from None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
