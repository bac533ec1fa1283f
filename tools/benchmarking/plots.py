"""A report as one picture. Imported only where a picture is wanted: matplotlib is an extra."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from msgspec import UnsetType, structs

from tools.benchmarking.engine import EngineReport
from tools.benchmarking.figures import Spread
from tools.benchmarking.pipeline import PipelineReport
from tools.benchmarking.report import BenchmarkReport
from tools.benchmarking.streams import ScalingReport, StreamsReport

COLUMNS: Final = 2
PANEL_INCHES: Final = (6.0, 3.8)
DPI: Final = 110
COSTS: Final = ("#4c72b0", "#55a868", "#c44e52", "#8172b2")


def draw(report: BenchmarkReport) -> bytes:
    """Return the parts of a report that make a picture, side by side, as a PNG."""
    panels = list(_panels(report))
    rows = max(-(-len(panels) // COLUMNS), 1)
    figure = Figure((PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * rows), layout="constrained")
    figure.suptitle(f"{report.machine.cpu.name}, {report.machine.cpu.usable_cores} cores, {report.at}")
    for place, panel in enumerate(panels, start=1):
        panel(figure.add_subplot(rows, COLUMNS, place))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()


def _panels(report: BenchmarkReport) -> Iterator[Callable[[Axes], None]]:
    if not isinstance(report.pipeline, UnsetType):
        yield partial(_cost, report.pipeline)
        yield partial(_latency, report.pipeline)
    if not isinstance(report.streams, UnsetType):
        yield partial(_streams, report.streams)
    if not isinstance(report.scaling, UnsetType):
        yield partial(_scaling, report.scaling)
    if not isinstance(report.engine, UnsetType):
        yield partial(_engine, report.engine)
    if alone := dict(_alone(report)):
        yield partial(_stages, alone)


def _cost(report: PipelineReport, axes: Axes) -> None:
    limit, left = report.limit, 0.0
    spreads = (limit.decode_cpu_ms, limit.scale_cpu_ms, limit.engine_cpu_ms, report.cpu_ms_beyond_limit)
    for name, spread, colour in zip(("decode", "scale", "engine", "all else"), spreads, COSTS, strict=True):
        cost = max(spread.median, 0.0)
        axes.barh(0, cost, left=left, color=colour, label=f"{name} {cost:.2f}")
        left += cost
    axes.set(yticks=[], xlabel="CPU ms of a frame", ylim=(-0.8, 0.8))
    axes.legend(ncols=2, loc="upper center")
    name = f"{report.streams} stream" + ("s" if report.streams > 1 else "")
    rate = f"{report.throughput.frames_per_s.median:.0f} frames/s"
    axes.set_title(f"Pipeline, {name}: {rate}, {report.ratio_to_limit:.2f} of the limit")


def _latency(report: PipelineReport, axes: Axes) -> None:
    for name, percentiles in report.latency.latency_ms.items():
        tails = structs.asdict(percentiles)
        axes.plot(list(tails), list(tails.values()), marker="o", label=name)
    axes.set_ylim(bottom=0)
    axes.set(ylabel="ms", title="At the pace of cameras: capture to message, and its parts")
    axes.legend()


def _streams(report: StreamsReport, axes: Axes) -> None:
    for held, colour in ((True, COSTS[1]), (False, COSTS[2])):
        trials = [trial for trial in report.trials if (trial.failure is None) is held]
        tails = [trial.latency_ms.p99 for trial in trials if trial.latency_ms]
        counts = [trial.streams for trial in trials if trial.latency_ms]
        axes.scatter(counts, tails, color=colour, label="held" if held else "failed")
    axes.axhline(report.p99_ms, color="grey", linestyle="--")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(yscale="log", xlabel="streams at once", ylabel="p99 ms")
    axes.legend()
    axes.set_title(f"{report.most} streams of {report.fps:g} frames/s within {report.p99_ms:g} ms, none dropped")


def _scaling(report: ScalingReport, axes: Axes) -> None:
    rows = report.rows
    lines = [
        ("CPU ms of a frame", [row.cpu_ms_per_frame for row in rows]),
        ("p99 ms", [row.latency_p99_ms for row in rows]),
    ]
    _doubling(axes, [row.streams for row in rows], lines)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="streams", title=f"Scaling, {report.fps:g} frames/s a stream")


def _engine(report: EngineReport, axes: Axes) -> None:
    lines = [
        (f"{entry.entry}, {entry.backend} {entry.precision}", [figures.images_per_s for figures in entry.batches])
        for entry in report.entries
    ]
    _doubling(axes, [figures.batch for figures in report.entries[0].batches], lines)
    axes.set(yscale="log", xlabel="batch", ylabel="images/s", title="Engine")


def _alone(report: BenchmarkReport) -> Iterator[tuple[str, Spread]]:
    if not isinstance(report.decode, UnsetType):
        yield "decode", report.decode.cpu_ms_per_frame
    if not isinstance(report.preprocess, UnsetType):
        yield "preprocess", report.preprocess.cpu_ms_per_frame
    if not isinstance(report.post, UnsetType):
        for case in report.post.cases:
            more = (", names" if case.named else "") + (f", {case.streams} streams" if case.streams > 1 else "")
            yield f"post, {case.objects}+{case.faces}{more}", case.cpu_ms_per_frame


def _stages(alone: dict[str, Spread], axes: Axes) -> None:
    middles, errors = _errors(list(alone.values()))
    axes.barh(list(alone), middles, xerr=errors, color=COSTS[0])
    axes.invert_yaxis()
    axes.set(xlabel="CPU ms of a frame", title="Stages alone")


def _doubling(axes: Axes, xs: list[int], lines: list[tuple[str, list[Spread]]]) -> None:
    """Draw lines over numbers that double."""
    for label, spreads in lines:
        middles, errors = _errors(spreads)
        axes.errorbar(xs, middles, yerr=errors, marker="o", capsize=3, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs, [str(x) for x in xs])
    axes.legend()


def _errors(spreads: Sequence[Spread]) -> tuple[list[float], list[list[float]]]:
    """Medians, and how far the least and the greatest are from them."""
    below = [each.median - each.min for each in spreads]
    return [each.median for each in spreads], [below, [each.max - each.median for each in spreads]]
