"""``trunkline benchmark``: how fast engine, decoding, preprocessing and the whole pipeline are on this machine."""

import tempfile
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console

from engines.spec import Backend, Model, Precision, load_model
from pipeline.config import ModelSettings
from tools.benchmarking.clip import check_file, describe, render
from tools.benchmarking.engine import measure_engines
from tools.benchmarking.pipeline import measure_pipeline
from tools.benchmarking.report import Report, begin
from tools.benchmarking.tables import show
from tools.benchmarking.video import measure_decode, measure_preprocess


class What(StrEnum):
    """The parts that can be measured."""

    engine = "engine"
    decode = "decode"
    preprocess = "preprocess"
    pipeline = "pipeline"


NEEDS_CLIP = frozenset({What.decode, What.preprocess, What.pipeline})
NEEDS_MODEL = frozenset({What.engine, What.preprocess, What.pipeline})
NEEDS_FRAMES = frozenset({What.preprocess, What.pipeline})


def benchmark(
    what: Annotated[list[What] | None, typer.Argument(help="What to measure; everything if left out.")] = None,
    source: Annotated[str | None, typer.Option(help="Video file to measure on; left out: a clip made for it.")] = None,
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path(ModelSettings().path),
    backend: Annotated[Literal["auto", Backend], typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic; auto leaves it to the backend.")] = "auto",
    seconds: Annotated[
        float, typer.Option(min=0.5, help="How long each part is measured, the pipeline twice; warm-up comes on top.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Measure how fast this machine is: the engine by batch, decoding, preprocessing, and the whole pipeline.

    docs/benchmark.md says what each figure means, and how to get good ones.

    Example: trunkline benchmark pipeline --source street.mp4 --seconds 30 --json
    """
    wanted = frozenset(what or What)
    settings = ModelSettings(path=str(model), backend=backend, precision=precision)
    report = _measure(wanted, source, settings, seconds)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        show(report, Console())


def _measure(wanted: Collection[What], source: str | None, settings: ModelSettings, seconds: float) -> Report:
    """Refuse what cannot be measured before anything is, then measure one part after the other."""
    if source is not None:
        check_file(source)
    model = load_model(settings.path) if NEEDS_MODEL.intersection(wanted) else None
    if model is not None and NEEDS_FRAMES.intersection(wanted):
        model.spec.entry("frame")
    report = begin(model, seconds)
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-benchmark-") as folder,
        Console(stderr=True).status("") as status,
    ):
        path = source or str(Path(folder) / "clip.mp4")
        if NEEDS_CLIP.intersection(wanted):
            if source is None:
                status.update("Making the clip")
                render(Path(path))
            report = msgspec.structs.replace(report, clip=describe(path, made=source is None))
        parts = _parts(path, model, settings, seconds)
        for part in (part for part in What if part in wanted):
            status.update(f"Measuring: {part}")
            report = msgspec.structs.replace(report, **{part: parts[part]()})
    return report


def _parts(path: str, model: Model | None, settings: ModelSettings, seconds: float) -> dict[What, Callable[[], object]]:
    """What measures each part; without a model or its frame entry, those that need none."""
    parts: dict[What, Callable[[], object]] = {What.decode: lambda: measure_decode(path, seconds)}
    if model is not None:
        parts[What.engine] = lambda: measure_engines(model, settings.backend, settings.precision, seconds)
        if (frame := model.spec.frame) is not None:
            size = frame.height, frame.width
            parts[What.preprocess] = lambda: measure_preprocess(path, size, seconds)
            parts[What.pipeline] = lambda: measure_pipeline(path, settings, seconds)
    return parts
