"""``trunkline benchmark``: how fast this machine is, part by part and as a whole, and what changed since."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.console import Console
from typer.core import TyperGroup

from engines.engine import Precision, backend_names
from engines.errors import BackendUnavailable
from pipeline.settings.schema import ModelSettings
from tools.benchmarking.compare import compare
from tools.benchmarking.figures import REPEATS
from tools.benchmarking.pages import changes_of, page_of, show, to_html
from tools.benchmarking.report import BenchmarkPart, BenchmarkReport, Wish, load, measure_parts
from tools.options import takes
from tools.output import json_of, print_json, write_file

EXIT_WORSE = 1
MILLISECONDS = {"ms": 1.0, "s": 1e3, "": 1.0}  # in a unit; without one they are meant


class Benchmark(TyperGroup):
    """``compare`` is a command of its own; every other word is a part to measure."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command that is meant."""
        if args[:1] == ["compare"]:
            return self.commands["compare"].make_context("compare", args[1:], parent, **extra)
        return self.commands["measure"].make_context(info_name, args, parent, **extra)


app = typer.Typer(cls=Benchmark, add_completion=False)


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|)", text)
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no time: give 100ms, 0.1s or the like.")
    return float(match[1]) * MILLISECONDS[match[2]]


def _one_of(text: str, allowed: Sequence[str]) -> tuple[Any, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in allowed:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(allowed)}.")
    return names


def _backends(text: str) -> tuple[Any, ...]:
    return _one_of(text, ("auto", *backend_names()))


def _precisions(text: str) -> tuple[Any, ...]:
    return _one_of(text, get_args(Precision))


SEVERAL = "several, with commas, are compared by engine, and the first is taken for the rest."


WhatOption = Annotated[list[BenchmarkPart] | None, typer.Argument(help="What to measure; everything if left out.")]
SourceOption = Annotated[
    list[str] | None, typer.Option(help="Video file to measure on, may be repeated; left out: a clip made for it.")
]
ClipOption = Annotated[Literal["720p", "1080p"], typer.Option(help="Size of the clip that is made.")]
ModelOption = Annotated[Path, typer.Option(help="Model folder.")]
BackendsOption = Annotated[Any, typer.Option(parser=_backends, metavar="NAME", help=f"What runs the model; {SEVERAL}")]
PrecisionOption = Annotated[Any, typer.Option(parser=_precisions, metavar="NAME", help=f"Arithmetic; {SEVERAL}")]
GpuOption = Annotated[int | None, typer.Option(min=0, help="GPU of the model, and of --decode.")]
TorchCompileOption = Annotated[
    bool, typer.Option("--torch-compile", help="engine: measure backend torch with torch.compile, too.")
]
PreprocessOption = Annotated[
    Literal["cpu", "gpu"], typer.Option(help="pipeline, streams, scaling: where pictures are scaled.")
]
DecodeOption = Annotated[
    Literal["ffmpeg", "nvdec", "vaapi"], typer.Option(help="pipeline, streams, scaling: what decodes.")
]
PredecodedOption = Annotated[
    int | None,
    typer.Option(min=1, help="pipeline: from so many frames of each stream in memory, beside the engine alone."),
]
SecondsOption = Annotated[
    float, typer.Option(min=0.5, help="How long each part, and each number of streams, is measured.")
]
RepeatsOption = Annotated[int, typer.Option(min=1, help="Repeats that time is divided into.")]
LinksOption = Annotated[
    Literal["queue", "zmq"], typer.Option(help="pipeline, streams, scaling: stages as threads or as processes.")
]
StreamsOption = Annotated[
    int | None, typer.Option(min=1, help="pipeline: streams, which play the sources in turn; one each if left out.")
]
P99Option = Annotated[
    Any, typer.Option(parser=_milliseconds, metavar="TIME", help="streams: latency that must hold, 100ms or 0.1s.")
]
FpsOption = Annotated[float, typer.Option(min=0.1, help="streams: frames a second of each.")]
ScalingFpsOption = Annotated[float, typer.Option(min=0.1, help="scaling: frames a second of each stream.")]
MaxStreamsOption = Annotated[int, typer.Option(min=1, help="streams and scaling: the most at once.")]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")]
HtmlOption = Annotated[Path | None, typer.Option(help="Write one page with tables and picture.")]
PlotOption = Annotated[Path | None, typer.Option(help="Write the figures as a PNG picture.")]
SaveOption = Annotated[Path | None, typer.Option(metavar="STEM", help="Write STEM.json, STEM.md and STEM.png.")]


def _wish(
    what: WhatOption = None,
    source: SourceOption = None,
    clip: ClipOption = "720p",
    model: ModelOption = Path(ModelSettings().path),
    backend: BackendsOption = "auto",
    precision: PrecisionOption = "auto",
    gpu: GpuOption = None,
    torch_compile: TorchCompileOption = False,
    preprocess: PreprocessOption = "cpu",
    decode: DecodeOption = "ffmpeg",
    predecoded: PredecodedOption = None,
    seconds: SecondsOption = 10.0,
    repeats: RepeatsOption = REPEATS,
    links: LinksOption = "queue",
    streams: StreamsOption = None,
    p99: P99Option = ("100ms"),
    fps: FpsOption = 30.0,
    scaling_fps: ScalingFpsOption = 5.0,
    max_streams: MaxStreamsOption = 32,
) -> Wish:
    return Wish(
        parts=frozenset(what or BenchmarkPart),
        sources=tuple(source or ()),
        made_size=clip,
        model=model,
        backends=backend,
        precisions=precision,
        gpu=gpu,
        torch_compile=torch_compile,
        preprocess=preprocess,
        decode=decode,
        predecoded=predecoded,
        links=links,
        seconds=seconds,
        repeats=repeats,
        streams=streams,
        p99_ms=p99,
        fps=fps,
        scaling_fps=scaling_fps,
        max_streams=max_streams,
    )


@app.command(epilog="trunkline benchmark compare BEFORE.json AFTER.json says what changed from one report to another.")
@takes(_wish)
def measure(
    wish: Wish,
    as_json: AsJsonOption = False,
    html: HtmlOption = None,
    plot: PlotOption = None,
    save: SaveOption = None,
) -> None:
    """Measure how fast this machine is: parts alone, the whole pipeline against its limit, and how many streams.

    docs/benchmark.md says what each figure means, and how to get good ones.

    Example: trunkline benchmark pipeline --source street.mp4 --streams 8 --json
    """
    if html or plot or save:
        _require_matplotlib()
    with Console(stderr=True).status("") as status:
        report = measure_parts(wish, status.update)
    _write(report, html, plot, save)
    if as_json:
        print_json(report)
    else:
        show(page_of(report), Console())


@app.command("compare")
def compare_reports(
    before: Annotated[Path, typer.Argument(help="BenchmarkReport of an earlier --json.")],
    after: Annotated[Path, typer.Argument(help="BenchmarkReport of a later one.")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with 1 if a figure got worse beyond the noise.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Say what changed from one report to another, and whether that is more than noise.

    Example: trunkline benchmark compare before.json after.json --fail-on-regression
    """
    comparison = compare(load(before), load(after))
    if as_json:
        print_json(comparison)
    else:
        show(changes_of(comparison), Console())
    if fail_on_regression and comparison.worse:
        raise typer.Exit(EXIT_WORSE)


def _require_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise BackendUnavailable("--plot, --html and --save need matplotlib; install it with: pip install matplotlib")


def _write(report: BenchmarkReport, html: Path | None, plot: Path | None, save: Path | None) -> None:
    """Write what was asked for; the picture is drawn once."""
    if not (html or plot or save):
        return
    from tools.benchmarking.plots import draw

    picture = draw(report)
    if plot:
        write_file(plot, picture)
    if html:
        write_file(html, to_html(report, picture).encode())
    if save:
        write_file(save.with_name(f"{save.name}.png"), picture)
        write_file(save.with_name(f"{save.name}.md"), page_of(report, f"{save.name}.png").encode())
        write_file(save.with_name(f"{save.name}.json"), f"{json_of(report)}\n".encode())
