"""A benchmark's report as tables for people."""

from collections.abc import Iterator
from typing import Final

from msgspec import UnsetType, structs
from rich.console import Console
from rich.table import Table

from tools.benchmarking.clip import Clip
from tools.benchmarking.engine import EngineFigures
from tools.benchmarking.figures import Percentiles, Spread
from tools.benchmarking.pipeline import PipelineFigures, PipelineReport
from tools.benchmarking.report import Report
from tools.benchmarking.video import DecodeFigures, PreprocessFigures

GIB: Final = 2**30
TAILS: Final = tuple(field.name for field in structs.fields(Percentiles))
MEANING: Final = "\nFigures are medians of {windows} windows, with the least and the greatest of them in brackets."


def show(report: Report, console: Console) -> None:
    """Print what was measured, on what, and the figures."""
    for piece in (*_setting(report), *_figures(report), MEANING.format(windows=report.windows)):
        console.print(piece, markup=False, highlight=False, soft_wrap=isinstance(piece, str))


def _figures(report: Report) -> Iterator[Table | str]:
    if not isinstance(report.engine, UnsetType):
        yield from _engine(report.engine)
    if rows := list(_single_stages(report.decode, report.preprocess)):
        yield "\nStages alone"
        table = Table("stage", "frames/s", "ms/frame", "CPU ms/frame")
        for row in rows:
            table.add_row(*row)
        yield table
    if not isinstance(report.pipeline, UnsetType):
        yield from _pipeline(report.pipeline, report.clip)


def _setting(report: Report) -> Iterator[str]:
    cpu, memory = report.machine.cpu, report.machine.memory_bytes / GIB
    yield f"{cpu.name}, {cpu.usable_cores} of {cpu.cores} cores, {memory:.1f} GiB, load {report.machine.load} at start"
    for gpu in report.machine.gpus:
        yield f"{gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}"
    yield ", ".join(f"{name} {version}" for name, version in report.versions.items() if version)
    if report.model is not None:
        yield f"model {report.model.name} {report.model.fingerprint} ({report.model.path})"
    if report.clip is not None:
        yield f"clip {_clip(report.clip)}"


def _clip(clip: Clip) -> str:
    facts = [
        clip.source or "made for this",
        f"{clip.width}x{clip.height} {clip.codec}",
        f"{clip.frames_per_s:g} frames/s" if clip.frames_per_s else None,
        f"{clip.bits_per_s / 1e6:.1f} Mbit/s" if clip.bits_per_s else None,
        f"{clip.seconds:g} s, read over and over" if clip.seconds else None,
    ]
    return ", ".join(fact for fact in facts if fact)


def _engine(entries: tuple[EngineFigures, ...]) -> Iterator[Table | str]:
    first = entries[0]
    yield f"\nEngine: {first.backend} {first.precision} on {first.device}"
    table = Table("entry", "batch", "images/s", "ms/batch p50", "p90")
    for entry in entries:
        for figures in entry.batches:
            table.add_row(
                f"{entry.entry} {entry.width}x{entry.height}",
                str(figures.batch),
                _spread(figures.images_per_s, 1),
                f"{figures.batch_ms.p50:.2f}",
                f"{figures.batch_ms.p90:.2f}",
            )
    yield table


def _single_stages(
    decode: DecodeFigures | UnsetType, preprocess: PreprocessFigures | UnsetType
) -> Iterator[tuple[str, ...]]:
    if not isinstance(decode, UnsetType):
        yield "decode", _spread(decode.frames_per_s, 1), "-", _spread(decode.cpu_ms_per_frame, 2)
    if not isinstance(preprocess, UnsetType):
        name = f"preprocess to {preprocess.width}x{preprocess.height}"
        yield name, "-", _spread(preprocess.ms_per_frame, 3), _spread(preprocess.cpu_ms_per_frame, 3)


def _pipeline(report: PipelineReport, clip: Clip | None) -> Iterator[Table | str]:
    fast, live = report.throughput, report.latency
    yield f"\nPipeline on {live.run['backend']} {live.run['precision']}: ms from capture to message, in real time"
    table = Table("step", *TAILS)
    for step, percentiles in live.latency_ms.items():
        table.add_row(step, *(f"{value:.1f}" for value in structs.astuple(percentiles)))
    yield table
    wanted = f" of {clip.frames_per_s:g}" if clip and clip.frames_per_s else ""
    yield f"In real time: {_spread(live.frames_per_s, 1)}{wanted} frames/s, {_running(live)}"
    yield f"As fast as it goes: {_spread(fast.frames_per_s, 1)} frames/s, {_running(fast)}"


def _running(figures: PipelineFigures) -> str:
    (account,) = figures.run["streams"].values()
    dropped = ", ".join(f"{count} {cause}" for cause, count in account["dropped"].items()) or "none"
    return (
        f"{_spread(figures.cpu_ms_per_frame, 2)} CPU ms/frame, "
        f"{figures.objects_per_frame:g} objects and {figures.faces_per_frame:g} faces a frame; "
        f"{account['captured']} captured, {account['published']} published, dropped {dropped}; "
        f"{figures.received} received, {figures.missed} missed."
    )


def _spread(spread: Spread, decimals: int) -> str:
    return f"{spread.median:.{decimals}f} ({spread.min:.{decimals}f}-{spread.max:.{decimals}f})"
