"""A report as titled tables of text, whatever they are shown in afterwards: a terminal or a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from msgspec import UnsetType, structs

from tools.benchmarking.clip import Clip
from tools.benchmarking.compare import Comparison
from tools.benchmarking.engine import EngineReport
from tools.benchmarking.figures import Percentiles, Spread
from tools.benchmarking.pipeline import PipelineFigures, PipelineReport
from tools.benchmarking.post import PostFigures
from tools.benchmarking.predecoded import PredecodedReport
from tools.benchmarking.report import Report
from tools.benchmarking.scaling import ScalingReport
from tools.benchmarking.streams import StreamsReport, Trial
from tools.benchmarking.transport import TransportFigures
from tools.benchmarking.video import DecodeFigures, PreprocessFigures

GIB: Final = 2**30
TAILS: Final = tuple(field.name for field in structs.fields(Percentiles))


@dataclass(frozen=True, slots=True)
class Section:
    """A title, a table, and sentences below it."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def sections(report: Report) -> Iterator[Section]:
    """What was measured on, and a section for each part that was measured."""
    yield Section("Machine", notes=tuple(_setting(report)))
    if not isinstance(report.engine, UnsetType):
        yield from _engine(report.engine)
    if rows := tuple(_single_stages(report.decode, report.preprocess)):
        yield Section("Stages alone", ("stage", "CPU ms/frame", "frames/s per core", "frames/s"), rows)
    if not isinstance(report.post, UnsetType):
        yield _post(report.post)
    if not isinstance(report.transport, UnsetType):
        yield _transport(report.transport)
    if not isinstance(report.pipeline, UnsetType):
        yield from _pipeline(report.pipeline, report.clips)
    if not isinstance(report.predecoded, UnsetType):
        yield _predecoded(report.predecoded)
    if not isinstance(report.streams, UnsetType):
        yield _streams(report.streams)
    if not isinstance(report.scaling, UnsetType):
        yield _scaling(report.scaling)
    if report.repeats > 1:
        meaning = f"Figures are medians of {report.repeats} repeats, the least and the greatest of them in brackets."
        yield Section("Reading it", notes=(meaning,))


def comparison_sections(comparison: Comparison) -> Iterator[Section]:
    """What differs between two reports: first about what was measured, then in the figures."""
    if comparison.differs:
        yield Section("Not the same", notes=comparison.differs)
    rows = tuple(
        (
            change.figure,
            f"{change.before:g}",
            f"{change.after:g}",
            "-" if change.change_percent is None else f"{change.change_percent:+.1f} %",
            "-" if change.p is None else f"{change.p:.2g}",
            change.verdict,
        )
        for change in comparison.changes
    )
    yield Section("Changes", ("figure", "before", "after", "change", "p", "verdict"), rows, tuple(_gone(comparison)))


def _gone(comparison: Comparison) -> Iterator[str]:
    for when, figures in (("before", comparison.only_before), ("after", comparison.only_after)):
        if figures:
            yield f"Only {when}: {', '.join(figures)}."
    if any(change.verdict == "unknown" for change in comparison.changes):
        yield "unknown: measured once; --repeats 3 or more in both reports tell change from noise."


def _setting(report: Report) -> Iterator[str]:
    cpu, memory = report.machine.cpu, report.machine.memory_bytes / GIB
    yield f"{cpu.name}, {cpu.usable_cores} of {cpu.cores} cores, {memory:.1f} GiB, load {report.machine.load} at start"
    for gpu in report.machine.gpus:
        yield f"{gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}"
    yield ", ".join(f"{name} {version}" for name, version in report.versions.items() if version)
    if report.model is not None:
        yield f"model {report.model.name} {report.model.fingerprint} ({report.model.path})"
    for clip in report.clips:
        yield f"clip {_clip(clip)}"


def _clip(clip: Clip) -> str:
    facts = [
        clip.source or "made for this",
        f"{clip.width}x{clip.height} {clip.codec}",
        f"{clip.frames_per_s:g} frames/s" if clip.frames_per_s else None,
        f"{clip.bits_per_s / 1e6:.1f} Mbit/s" if clip.bits_per_s else None,
        f"{clip.seconds:g} s, read over and over" if clip.seconds else None,
    ]
    return ", ".join(fact for fact in facts if fact)


def _engine(report: EngineReport) -> Iterator[Section]:
    columns = ("entry", "batch", "images/s", "CPU ms/image", "ms/batch p50", "p99")
    for name, entries in groupby(report.entries, lambda one: f"{one.backend} {one.precision} on {one.device}"):
        rows = tuple(
            (
                f"{entry.entry} {entry.width}x{entry.height}",
                str(figures.batch),
                _spread(figures.images_per_s),
                _spread(figures.cpu_ms_per_image),
                _number(figures.batch_ms.p50),
                _number(figures.batch_ms.p99),
            )
            for entry in entries
            for figures in entry.batches
        )
        yield Section(f"Engine: {name}", columns, rows)
    if report.refused:
        yield Section("Engines that cannot run here", notes=report.refused)


def _single_stages(
    decode: DecodeFigures | UnsetType, preprocess: PreprocessFigures | UnsetType
) -> Iterator[tuple[str, ...]]:
    if not isinstance(decode, UnsetType):
        yield (
            "decode",
            _spread(decode.cpu_ms_per_frame),
            _spread(decode.frames_per_s_per_core),
            _spread(decode.frames_per_s),
        )
    if not isinstance(preprocess, UnsetType):
        name = f"preprocess to {preprocess.width}x{preprocess.height}"
        yield name, _spread(preprocess.cpu_ms_per_frame), _spread(preprocess.frames_per_s_per_core), "-"


def _post(report: PostFigures) -> Section:
    steps = tuple(report.cases[0].steps_cpu_ms_per_frame)
    rows = tuple(
        (
            f"{case.objects} objects, {case.faces} faces" + (", names" if case.named else ""),
            _spread(case.cpu_ms_per_frame),
            _spread(case.frames_per_s_per_core),
            *(_number(case.steps_cpu_ms_per_frame[step].median) for step in steps),
        )
        for case in report.cases
    )
    columns = ("in a frame", "CPU ms/frame", "frames/s per core", *steps)
    return Section("Everything after the engine, milliseconds a frame", columns, rows)


def _transport(report: TransportFigures) -> Section:
    row = (
        f"{report.width}x{report.height}",
        _spread(report.frames_per_s),
        _spread(report.gigabytes_per_s),
        _spread(report.writer_cpu_ms_per_frame),
        _spread(report.reader_cpu_ms_per_frame),
    )
    columns = ("frames", "frames/s", "GB/s", "CPU ms/frame to write", "to read")
    return Section("Frames between processes", columns, (row,))


def _pipeline(report: PipelineReport, clips: Sequence[Clip]) -> Iterator[Section]:
    engine = f"{report.throughput.runs[0]['backend']} {report.throughput.runs[0]['precision']}"
    title = f"Pipeline, {report.streams} stream{'s' if report.streams > 1 else ''} on {engine}, links {report.links}"
    yield _throughput(title, report)
    yield _latency(title, report, clips)


def _throughput(title: str, report: PipelineReport) -> Section:
    fast, limit = report.throughput, report.limit
    rows = (
        ("frames/s", _spread(fast.frames_per_s)),
        ("frames/s of the limit", _spread(limit.frames_per_s)),
        ("ratio to the limit", _spread(report.ratio_to_limit_repeats)),
        ("CPU ms a frame", _spread(fast.cpu_ms_per_frame)),
        ("decode, alone", _spread(limit.decode_cpu_ms)),
        ("scale, alone", _spread(limit.scale_cpu_ms)),
        (f"engine, alone, batches of {limit.batch_mean:.1f}", _spread(limit.engine_cpu_ms)),
        ("all else", _spread(report.cpu_ms_beyond_limit)),
        (f"cores used, of {limit.cores}", _spread(fast.cores_used)),
        ("peak MiB", _spread(fast.memory.peak_mib)),
    )
    meaning = "The limit is cores divided by the CPU time of decode, scale and engine, each alone, after each run."
    return Section(f"{title}: as fast as it goes", ("figure", ""), rows, (meaning, *_running(fast)))


def _predecoded(report: PredecodedReport) -> Section:
    fast = report.throughput
    rows = (
        ("frames/s", _spread(fast.frames_per_s)),
        (f"images/s of the engine alone, batches of {report.engine_batch}", _spread(report.engine_per_s)),
        ("ratio to the engine", _spread(report.ratio_to_engine_repeats)),
        ("CPU ms a frame", _spread(fast.cpu_ms_per_frame)),
        ("cores used", _spread(fast.cores_used)),
    )
    books, streams = fast.runs[0], f"{report.streams} stream{'s' if report.streams > 1 else ''}"
    title = f"Pipeline from {report.held} frames in memory, {streams} on {books['backend']} {books['precision']}"
    return Section(f"{title}, preprocess {report.preprocess}", ("figure", ""), rows, tuple(_running(fast)))


def _latency(title: str, report: PipelineReport, clips: Sequence[Clip]) -> Section:
    live = report.latency
    finer = {step: tails for step, tails in live.runs[-1]["stages_ms"].items() if step != "total"}
    rows = [(step, *map(_ms, structs.astuple(tails))) for step, tails in live.latency_ms.items()]
    rows += [(f"{step}, by its own books", *(_ms(tails[tail]) for tail in TAILS)) for step, tails in finer.items()]
    rates = [clip.frames_per_s or 0.0 for clip in clips]
    wanted = sum(rates[number % len(rates)] for number in range(report.streams)) if all(rates) else 0.0
    arrived = (
        f"{_spread(live.frames_per_s)}{f' of {wanted:g}' if wanted else ''} frames/s arrived, "
        f"{_spread(live.cpu_ms_per_frame)} CPU ms a frame."
    )
    name = f"{title}: at the pace of cameras, ms from capture to message"
    return Section(name, ("step", *TAILS), tuple(rows), (arrived, *_running(live)))


def _running(figures: PipelineFigures) -> Iterator[str]:
    yield (
        f"{_number(figures.objects_per_frame)} objects and {_number(figures.faces_per_frame)} faces a frame; "
        f"dropped {_dropped(figures.dropped)}; {figures.received} messages received, {figures.missed} missed."
    )
    memory, power = figures.memory, figures.power
    yield (
        f"Resident memory of {memory.processes} process{'es' if memory.processes > 1 else ''}: "
        f"{_spread(memory.rss_mib)} MiB, growth {_spread(memory.growth_percent)} %."
    )
    if power.cpu_watts is not None and power.cpu_joules_per_frame is not None:
        yield f"Processor packages: {_spread(power.cpu_watts)} W, {_spread(power.cpu_joules_per_frame)} J a frame."
    if power.gpu is not None:
        told = (power.gpu.utilisation_percent, power.gpu.memory_mib, power.gpu.watts)
        percent, mib, watts = ("?" if value is None else f"{value:g}" for value in told)
        yield f"GPU: {percent} % busy, {mib} MiB, {watts} W."


def _streams(report: StreamsReport) -> Section:
    rows = tuple(_trial(trial) for trial in sorted(report.trials, key=lambda trial: trial.streams))
    more = ", which is as many as were tried" if report.most == report.tried_up_to else ""
    return Section(
        f"Streams of {report.fps:g} frames/s within {report.p99_ms:g} ms at p99, no frame dropped: {report.most}{more}",
        ("streams", "held", *TAILS, "dropped", "cores", "MiB"),
        rows,
    )


def _trial(trial: Trial) -> tuple[str, ...]:
    tails = structs.astuple(trial.latency_ms) if trial.latency_ms else ()
    return (
        str(trial.streams),
        trial.failure or "yes",
        *(f"{value:.1f}" for value in tails or ()),
        *("-" for _ in TAILS[len(tails) :]),
        _dropped(trial.dropped),
        f"{trial.cores_used:.2f}",
        f"{trial.rss_mib:.0f}",
    )


def _scaling(report: ScalingReport) -> Section:
    rows = tuple(
        (
            str(row.streams),
            _spread(row.frames_per_s),
            _spread(row.cpu_ms_per_frame),
            f"{row.cpu_per_frame_to_one:.2f}",
            f"{row.cores_used.median:.2f}",
            f"{row.latency_ms.p50:.1f}",
            f"{row.latency_ms.p99:.1f}",
            _spread(row.rss_mib),
            _dropped(row.dropped),
        )
        for row in report.rows
    )
    columns = ("streams", "frames/s", "CPU ms/frame", "to fewest", "cores", "ms p50", "p99", "MiB", "dropped")
    notes = () if report.mib_per_stream is None else (f"One more stream takes {report.mib_per_stream:g} MiB.",)
    return Section(f"Scaling, {report.fps:g} frames/s a stream", columns, rows, notes)


def _dropped(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in counts.items()) or "none"


def _spread(spread: Spread) -> str:
    if len(spread.values) == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.min)}-{_number(spread.max)})"


def _ms(value: float) -> str:
    return f"{value:.1f}"


def _number(value: float) -> str:
    """Three digits that count, and never an exponent.

    >>> _number(1234.5), _number(12.345), _number(0.01234), _number(0.0)
    ('1234', '12.3', '0.012', '0')
    """
    if not value:
        return "0"
    size = abs(value)
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
