"""The parts of a benchmark, and measuring those that are wanted one after the other."""

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, Literal

import msgspec

from engines.engine import Precision
from engines.errors import ConfigError
from engines.spec import Backend, Model, load_model
from pipeline.settings.schema import ModelSettings
from tools.benchmarking.clip import SIZES, check_file, describe, lengthen, render
from tools.benchmarking.engine import measure_engines
from tools.benchmarking.pipeline import measure_pipeline
from tools.benchmarking.post import measure_post
from tools.benchmarking.predecoded import measure_predecoded
from tools.benchmarking.report import BenchmarkReport, begin
from tools.benchmarking.scaling import measure_scaling
from tools.benchmarking.setup import Links, Setup
from tools.benchmarking.streams import measure_streams
from tools.benchmarking.transport import SIZE, measure_transport
from tools.benchmarking.video import measure_decode, measure_preprocess


class BenchmarkPart(StrEnum):
    """What can be measured, in the order in which it is."""

    engine = "engine"
    decode = "decode"
    preprocess = "preprocess"
    post = "post"
    transport = "transport"
    pipeline = "pipeline"
    streams = "streams"
    scaling = "scaling"


RUNS: Final = frozenset({BenchmarkPart.pipeline, BenchmarkPart.streams, BenchmarkPart.scaling})
NEEDS_CLIP: Final = RUNS | {BenchmarkPart.decode, BenchmarkPart.preprocess}
NEEDS_FRAMES: Final = RUNS | {BenchmarkPart.preprocess}  # the model's frame entry
NEEDS_MODEL: Final = NEEDS_FRAMES | {BenchmarkPart.engine}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to measure, and how."""

    parts: Collection[BenchmarkPart]
    sources: tuple[str, ...]  # files; none: a clip is made
    made_size: str  # of that clip, one of SIZES
    model: Path
    backends: tuple[Backend, ...]  # all of them for the engine, the first for everything else
    precisions: tuple[Precision, ...]
    gpu: int | None
    torch_compile: bool  # measure the torch engine with it, too
    preprocess: Literal["cpu", "gpu"]
    decode: Literal["ffmpeg", "nvdec", "vaapi"]
    predecoded: int | None  # frames of each stream that the pipeline is run on from memory; None: from files
    links: Links
    seconds: float
    repeats: int
    streams: int | None  # of the pipeline; None: one for each source
    p99_ms: float
    fps: float
    scaling_fps: float
    max_streams: int


def measure_parts(wish: Wish, tell: Callable[[str], None]) -> BenchmarkReport:
    """Refuse what cannot be measured before anything is, then measure one part after the other.

    Args:
        wish: what to measure; its parts are measured in the order of :class:`BenchmarkPart`.
        tell: hears what is going on.

    Raises:
        TrunklineError: what was asked for cannot be had, or fails.
    """
    for source in wish.sources:
        check_file(source)
    if wish.streams is not None and wish.streams < len(wish.sources):
        raise ConfigError(
            f"--streams is {wish.streams}, but must be at least the number of --source, {len(wish.sources)}"
        )
    _check(wish)
    model = load_model(str(wish.model)) if NEEDS_MODEL.intersection(wish.parts) else None
    if model is not None and NEEDS_FRAMES.intersection(wish.parts):
        model.spec.entry("frame")
    report = begin(model, wish.seconds, wish.repeats)
    with tempfile.TemporaryDirectory(prefix="trunkline-benchmark-") as name:
        folder = Path(name)
        sources = wish.sources
        if NEEDS_CLIP.intersection(wish.parts):
            if not sources:
                tell(f"Making the clip, {wish.made_size}")
                sources = (str(folder / "clip.mp4"),)
                render(Path(sources[0]), SIZES[wish.made_size])
            clips = tuple(describe(source, made=not wish.sources) for source in sources)
            report = msgspec.structs.replace(report, clips=clips)
        measures = _measures(wish, model, sources, folder, tell)
        for part in (part for part in BenchmarkPart if part in wish.parts):
            tell(f"Measuring {part}")
            field = "predecoded" if part is BenchmarkPart.pipeline and wish.predecoded else part
            report = msgspec.structs.replace(report, **{field: measures[part]()})
    return report


def _check(wish: Wish) -> None:
    if wish.torch_compile and "torch" not in wish.backends:
        raise ConfigError(f"--torch-compile is for backend 'torch', but --backend is {','.join(wish.backends)}")
    if wish.predecoded is not None and wish.links != "queue":
        raise ConfigError(f"--links is {wish.links!r}, but must be 'queue' with --predecoded")


def _measures(
    wish: Wish, model: Model | None, sources: tuple[str, ...], folder: Path, tell: Callable[[str], None]
) -> Mapping[BenchmarkPart, Callable[[], object]]:
    """What measures each part; without a model or its frame entry, those that need none."""
    seconds, repeats = wish.seconds, wish.repeats
    played = Played(sources, folder)
    measures: dict[BenchmarkPart, Callable[[], object]] = {
        BenchmarkPart.decode: lambda: measure_decode(played.at(None), seconds, repeats),
        BenchmarkPart.post: partial(measure_post, seconds),
        BenchmarkPart.transport: partial(measure_transport, _size(wish), seconds, repeats),
    }
    if model is None:
        return measures
    measures[BenchmarkPart.engine] = partial(
        measure_engines,
        model,
        wish.backends,
        wish.precisions,
        seconds,
        repeats,
        gpu=wish.gpu,
        torch_compile=wish.torch_compile,
    )
    if (frame := model.spec.frame) is None:
        return measures
    settings = ModelSettings(path=str(wish.model), backend=wish.backends[0], precision=wish.precisions[0], gpu=wish.gpu)

    def setup(rate: float | None) -> Setup:
        return Setup(played.at(rate), settings, wish.links, folder, wish.preprocess, wish.decode)

    def told(text: str) -> None:
        tell(f"Measuring: {text}")

    measures[BenchmarkPart.preprocess] = lambda: measure_preprocess(
        played.at(None), (frame.height, frame.width), seconds, repeats
    )
    streams, held = wish.streams or len(sources), wish.predecoded
    measures[BenchmarkPart.pipeline] = lambda: (
        measure_pipeline(setup(None), streams, seconds, repeats, told)
        if held is None
        else measure_predecoded(setup(None), streams, held, seconds, repeats, told)
    )
    measures[BenchmarkPart.streams] = lambda: measure_streams(
        setup(wish.fps), wish.p99_ms, wish.fps, seconds, wish.max_streams, told
    )
    measures[BenchmarkPart.scaling] = lambda: measure_scaling(
        setup(wish.scaling_fps), wish.scaling_fps, seconds, wish.max_streams, repeats, told
    )
    return measures


def _size(wish: Wish) -> tuple[int, int]:
    """Width and height of the frames that go from process to process."""
    if not wish.sources:
        return SIZE
    clip = describe(wish.sources[0], made=False)
    return clip.width, clip.height


class Played:
    """Copies of files that are long enough to be played, each made when it is first needed."""

    def __init__(self, sources: tuple[str, ...], folder: Path) -> None:
        self._sources = sources
        self._folder = folder
        self._made: dict[float | None, tuple[str, ...]] = {}

    def at(self, rate: float | None) -> tuple[str, ...]:
        """The files with another number of frames a second; None: their own.

        Raises:
            TrunklineError: as :func:`tools.benchmarking.clip.lengthen`.
        """
        if rate not in self._made:
            self._made[rate] = tuple(
                lengthen(source, self._folder / f"{number}-at-{rate}.mkv", rate)
                for number, source in enumerate(self._sources)
            )
        return self._made[rate]
