"""All that was measured, on what, and with what: what ``trunkline benchmark --json`` prints, and how it comes about."""

import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from engines.errors import ConfigError
from engines.hardware import Cpu, Gpu, cpu, memory_bytes, nvidia_gpus
from engines.spec import Model, load_model
from engines.undecodable import UNDECODABLE
from engines.zoo import model_name
from pipeline.settings.schema import ModelSettings
from tools.benchmarking.clip import SIZES, BenchmarkClip, check_file, describe, lengthen, render
from tools.benchmarking.engine import EngineReport, measure_engines
from tools.benchmarking.pipeline import PipelineReport, PredecodedReport, measure_pipeline, measure_predecoded
from tools.benchmarking.post import PostFigures, measure_post
from tools.benchmarking.run import Setup, Tell
from tools.benchmarking.stages import DecodeFigures, PreprocessFigures, measure_decode, measure_preprocess
from tools.benchmarking.streams import ScalingReport, StreamsReport, measure_scaling, measure_streams
from tools.benchmarking.transport import SIZE, TransportFigures, measure_transport
from tools.benchmarking.wish import BenchmarkPart, Wish

FORMAT: Final = 2
PACKAGES: Final = "trunkline av numpy onnxruntime opencv-python-headless openvino pyzmq tensorrt torch"


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
    detect_clips: tuple[BenchmarkClip, ...] = ()  # that streams and scaling decoded in their place; none: they did not
    inferred: float | None = None  # frames a second of each stream that the network saw there; None: all
    seconds: float  # for each part
    repeats: int  # that it was divided into; a spread is over them
    engine: EngineReport | UnsetType = UNSET
    decode: DecodeFigures | UnsetType = UNSET
    preprocess: PreprocessFigures | UnsetType = UNSET
    post: PostFigures | UnsetType = UNSET
    transport: TransportFigures | UnsetType = UNSET
    pipeline: PipelineReport | UnsetType = UNSET
    predecoded: PredecodedReport | UnsetType = UNSET
    streams: StreamsReport | UnsetType = UNSET
    scaling: ScalingReport | UnsetType = UNSET


RUNS: Final = frozenset({BenchmarkPart.pipeline, BenchmarkPart.streams, BenchmarkPart.scaling})
MAX_DETECT_S: Final = 20.0  # files with smaller copies are not begun again: lengthened ones last 50 s at 30 frames/s
NEEDS_CLIP: Final = RUNS | {BenchmarkPart.decode, BenchmarkPart.preprocess}
NEEDS_FRAMES: Final = RUNS | {BenchmarkPart.preprocess}  # the model's frame entry
NEEDS_MODEL: Final = NEEDS_FRAMES | {BenchmarkPart.engine}


def measure_parts(wish: Wish, tell: Tell) -> BenchmarkReport:
    """Refuse what cannot be measured before anything is, then measure one part after the other.

    Raises:
        TrunklineError: what was asked for cannot be had, or fails.
    """
    parts = [part for part in BenchmarkPart if not wish.what or part in wish.what]
    _check(wish)
    model = load_model(str(wish.model)) if NEEDS_MODEL.intersection(parts) else None
    if model is not None and NEEDS_FRAMES.intersection(parts):
        model.spec.entry("frame")
    report = begin(model, wish.seconds, wish.repeats)
    with tempfile.TemporaryDirectory(prefix="trunkline-benchmark-") as name:
        folder, sources = Path(name), tuple(wish.sources)
        if NEEDS_CLIP.intersection(parts):
            if not sources:
                tell(f"Making the clip, {wish.clip}")
                sources = (str(folder / "clip.mp4"),)
                render(Path(sources[0]), SIZES[wish.clip])
            clips = tuple(describe(source, made=not wish.sources) for source in sources)
            detect = tuple(describe(source, made=False) for source in wish.detect_source or ())
            report = msgspec.structs.replace(report, clips=clips, detect_clips=detect, inferred=wish.inferred)
        measures = _measures(wish, model, sources, folder, lambda text: tell(f"Measuring: {text}"))
        for part in parts:
            tell(f"Measuring {part}")
            field = "predecoded" if part is BenchmarkPart.pipeline and wish.predecoded else part
            report = msgspec.structs.replace(report, **{field: measures[part]()})
    return report


def _check(wish: Wish) -> None:
    detect = wish.detect_source or ()
    for source in (*wish.sources, *detect):
        check_file(source)
    if detect and len(detect) != len(wish.sources):
        wanted = f"once for each --source, which is given {len(wish.sources)} times"
        raise ConfigError(f"--detect-source is given {len(detect)} times, but must be given {wanted}")
    if detect and wish.seconds > MAX_DETECT_S:
        raise ConfigError(f"--seconds is {wish.seconds:g}, but must be at most {MAX_DETECT_S:g} with --detect-source")
    if wish.streams is not None and wish.streams < len(wish.sources):
        raise ConfigError(
            f"--streams is {wish.streams}, but must be at least the number of --source, {len(wish.sources)}"
        )
    if wish.torch_compile and "torch" not in wish.backend:
        raise ConfigError(f"--torch-compile is for backend 'torch', but --backend is {','.join(wish.backend)}")
    if wish.predecoded is not None and wish.links != "queue":
        raise ConfigError(f"--links is {wish.links!r}, but must be 'queue' with --predecoded")


def _measures(
    wish: Wish, model: Model | None, sources: tuple[str, ...], folder: Path, tell: Tell
) -> Mapping[BenchmarkPart, Callable[[], object]]:
    """What measures each part; called only where the model has what it needs."""
    seconds, repeats, gpu = wish.seconds, wish.repeats, wish.gpu
    settings = ModelSettings(path=str(wish.model), backend=wish.backend[0], precision=wish.precision[0], gpu=gpu)

    @cache
    def played(rate: float | None = None, detect: bool = False) -> tuple[str, ...]:
        """Copies of the files that are long enough to be played, with so many pictures a second; None: their own."""
        files = tuple(wish.detect_source or ()) if detect else sources
        copies = (folder / f"{'detect-' * detect}{number}-at-{rate}.mkv" for number in range(len(files)))
        return tuple(lengthen(source, copy, rate) for source, copy in zip(files, copies, strict=True))

    def setup(rate: float | None = None) -> Setup:
        return Setup(played(rate), settings, wish.links, folder, wish.preprocess, wish.decode)

    def cameras(rate: float) -> Setup:
        return replace(setup(rate), inferred=wish.inferred, detect_sources=played(rate, detect=True))

    def engines() -> EngineReport:
        assert model is not None
        chosen = wish.backend, wish.precision, seconds, repeats
        return measure_engines(model, *chosen, gpu=gpu, torch_compile=wish.torch_compile)

    def scaled() -> PreprocessFigures:
        assert model is not None
        frame = model.spec.entry("frame")
        return measure_preprocess(played(), (frame.height, frame.width), seconds, repeats)

    def whole() -> PipelineReport | PredecodedReport:
        streams = wish.streams or len(sources)
        if wish.predecoded:
            return measure_predecoded(setup(), streams, wish.predecoded, seconds, repeats, tell)
        return measure_pipeline(setup(), streams, seconds, repeats, tell)

    fps, slow, most = wish.fps, wish.scaling_fps, wish.max_streams
    return {
        BenchmarkPart.engine: engines,
        BenchmarkPart.decode: lambda: measure_decode(played(), seconds, repeats),
        BenchmarkPart.preprocess: scaled,
        BenchmarkPart.post: lambda: measure_post(seconds),
        BenchmarkPart.transport: lambda: measure_transport(_size(wish), seconds, repeats),
        BenchmarkPart.pipeline: whole,
        BenchmarkPart.streams: lambda: measure_streams(cameras(fps), wish.p99, fps, seconds, most, tell),
        BenchmarkPart.scaling: lambda: measure_scaling(cameras(slow), slow, seconds, most, repeats, tell),
    }


def _size(wish: Wish) -> tuple[int, int]:
    """Width and height of the frames that go from process to process."""
    clips = [describe(source, made=False) for source in wish.sources[:1]]
    return (clips[0].width, clips[0].height) if clips else SIZE


def begin(model: Model | None, seconds: float, repeats: int) -> BenchmarkReport:
    """Return a report without measurements; clips and parts are put in by ``msgspec.structs.replace``."""
    load = round(os.getloadavg()[0], 2)
    return BenchmarkReport(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=BenchmarkMachine(cpu(), memory_bytes(), nvidia_gpus(), platform.platform(), load),
        versions={"python": platform.python_version(), **{package: _version(package) for package in PACKAGES.split()}},
        model=ModelIdentity(model_name(model.path), model.spec.name, model.fingerprint) if model else None,
        seconds=seconds,
        repeats=repeats,
    )


def load(path: Path) -> BenchmarkReport:
    """Return a report that was written before.

    Raises:
        ConfigError: the file cannot be read, or is no report of this format.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchmarkReport)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UNDECODABLE as error:
        said = f"is not a report of trunkline benchmark --json in format {FORMAT}: {error}"
        raise ConfigError(f"{path}: {said}") from None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
