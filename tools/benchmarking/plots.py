"""A report as one picture. Imported only where a picture is wanted: matplotlib is an extra."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from msgspec import UnsetType

from tools.benchmarking.engine import BATCHES, EngineReport
from tools.benchmarking.figures import Spread
from tools.benchmarking.pipeline import PipelineReport
from tools.benchmarking.post import PostFigures
from tools.benchmarking.report import BenchmarkReport
from tools.benchmarking.scaling import ScalingReport
from tools.benchmarking.streams import StreamsReport
from tools.benchmarking.video import DecodeFigures, PreprocessFigures

Draw = Callable[[Axes], None]

COLUMNS: Final = 2
PANEL_INCHES: Final = (6.0, 3.8)
DPI: Final = 110
COSTS: Final = ("#4c72b0", "#55a868", "#c44e52", "#8172b2")


def draw(report: BenchmarkReport) -> bytes:
    """The parts of a report that make a picture, side by side, as a PNG."""
    panels = list(_panels(report))
    rows = max(-(-len(panels) // COLUMNS), 1)
    figure = Figure((PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * rows), layout="constrained")
    figure.suptitle(f"{report.machine.cpu.name}, {report.machine.cpu.usable_cores} cores, {report.at}")
    for place, panel in enumerate(panels, start=1):
        panel(figure.add_subplot(rows, COLUMNS, place))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()


def _panels(report: BenchmarkReport) -> Iterator[Draw]:
    if not isinstance(report.pipeline, UnsetType):
        yield partial(_cost, report.pipeline)
        yield partial(_latency, report.pipeline)
    if not isinstance(report.streams, UnsetType):
        yield partial(_streams, report.streams)
    if not isinstance(report.scaling, UnsetType):
        yield partial(_scaling, report.scaling)
    if not isinstance(report.engine, UnsetType):
        yield partial(_engine, report.engine)
    alone = {name: spread for name, spread in _alone(report.decode, report.preprocess, report.post)}
    if alone:
        yield partial(_stages, alone)


def _cost(report: PipelineReport, axes: Axes) -> None:
    limit = report.limit
    costs = {
        "decode": limit.decode_cpu_ms.median,
        "scale": limit.scale_cpu_ms.median,
        "engine": limit.engine_cpu_ms.median,
        "all else": max(report.cpu_ms_beyond_limit.median, 0.0),
    }
    left = 0.0
    for (name, cost), colour in zip(costs.items(), COSTS, strict=True):
        axes.barh(0, cost, left=left, color=colour, label=f"{name} {cost:.2f}")
        left += cost
    axes.set_yticks([])
    axes.set_xlabel("CPU ms of a frame")
    axes.set_ylim(-0.8, 0.8)
    axes.legend(ncols=2, loc="upper center")
    name = f"{report.streams} stream" + ("s" if report.streams > 1 else "")
    rate = f"{report.throughput.frames_per_s.median:.0f} frames/s"
    axes.set_title(f"Pipeline, {name}: {rate}, {report.ratio_to_limit:.2f} of the limit")


def _latency(report: PipelineReport, axes: Axes) -> None:
    steps = report.latency.latency_ms
    tails = ("p50", "p90", "p95", "p99", "max")
    for name, percentiles in steps.items():
        axes.plot(tails, [getattr(percentiles, tail) for tail in tails], marker="o", label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms")
    axes.legend()
    axes.set_title("At the pace of cameras: capture to message, and its parts")


def _streams(report: StreamsReport, axes: Axes) -> None:
    for held, colour in ((True, COSTS[1]), (False, COSTS[2])):
        trials = [trial for trial in report.trials if (trial.failure is None) is held and trial.latency_ms]
        tails = [trial.latency_ms.p99 for trial in trials if trial.latency_ms]
        label = "held" if held else "failed"
        axes.scatter([trial.streams for trial in trials], tails, color=colour, label=label)
    axes.axhline(report.p99_ms, color="grey", linestyle="--")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("streams at once")
    axes.set_ylabel("p99 ms")
    axes.legend()
    axes.set_title(f"{report.most} streams of {report.fps:g} frames/s within {report.p99_ms:g} ms, none dropped")


def _scaling(report: ScalingReport, axes: Axes) -> None:
    counts = [row.streams for row in report.rows]
    _with_error(axes, counts, [row.cpu_ms_per_frame for row in report.rows], "CPU ms of a frame")
    _with_error(axes, counts, [row.latency_p99_ms for row in report.rows], "p99 ms")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("streams")
    axes.legend()
    axes.set_title(f"Scaling, {report.fps:g} frames/s a stream")


def _engine(report: EngineReport, axes: Axes) -> None:
    for entry in report.entries:
        sizes = [figures.batch for figures in entry.batches]
        name = f"{entry.entry}, {entry.backend} {entry.precision}"
        _with_error(axes, sizes, [figures.images_per_s for figures in entry.batches], name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    axes.set_xlabel("batch")
    axes.set_ylabel("images/s")
    axes.legend()
    axes.set_title("Engine")


def _alone(
    decode: DecodeFigures | UnsetType, preprocess: PreprocessFigures | UnsetType, post: PostFigures | UnsetType
) -> Iterator[tuple[str, Spread]]:
    if not isinstance(decode, UnsetType):
        yield "decode", decode.cpu_ms_per_frame
    if not isinstance(preprocess, UnsetType):
        yield "preprocess", preprocess.cpu_ms_per_frame
    if not isinstance(post, UnsetType):
        for case in post.cases:
            yield f"post, {case.objects}+{case.faces}" + (", names" if case.named else ""), case.cpu_ms_per_frame


def _stages(alone: dict[str, Spread], axes: Axes) -> None:
    middles = [spread.median for spread in alone.values()]
    errors = [
        [spread.median - spread.min for spread in alone.values()],
        [spread.max - spread.median for spread in alone.values()],
    ]
    axes.barh(list(alone), middles, xerr=errors, color=COSTS[0])
    axes.invert_yaxis()
    axes.set_xlabel("CPU ms of a frame")
    axes.set_title("Stages alone")


def _with_error(axes: Axes, xs: list[int], spreads: list[Spread], label: str) -> None:
    errors = [[each.median - each.min for each in spreads], [each.max - each.median for each in spreads]]
    axes.errorbar(xs, [each.median for each in spreads], yerr=errors, marker="o", capsize=3, label=label)
