"""Which stage follows which: the one wiring of a run.

Threads (:mod:`pipeline.runtime.threads`) and processes (:mod:`pipeline.runtime.processes`) both take it from here, and
nothing else knows the order. A stage reads one link and writes one; the thread or process that runs it opens what it
needs.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from pipeline.frames.types import Batch, Frame, Inferred, Prepared, Result
from pipeline.inference import preprocess
from pipeline.inference import stage as inference
from pipeline.inference.stage import Started
from pipeline.runtime.capturing import Tell
from pipeline.runtime.event_publisher import publish
from pipeline.runtime.parts import Need, Parts
from pipeline.runtime.supervision import until_over
from pipeline.settings.schema import StreamSettings
from pipeline.sources import capture
from pipeline.sources.capture import Capture
from pipeline.sources.cuts import mark_cuts
from pipeline.sources.rate import Rates, mark_skipped

# frames: batched across the streams (FrameLink). inferred: divided among the shards. messages: what was published.
# faces, answers: what a shard asks of the face entry, and gets. The others: bounded, in order.
Link = Literal["frames", "prepared", "started", "inferred", "results", "messages", "faces", "answers"]
Worker = Literal["capture", "prepare", "infer", "postprocess", "finish"]  # the processes, with links = "zmq"
StageFunction = Callable[[Iterator[Any]], Iterator[Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the way of a frame.

    Attributes:
        name: of its thread.
        called: what logs and errors call it.
        make: makes its generator function of what was opened: of :class:`pipeline.runtime.parts.Parts`; that of a
            source, which reads nothing, of a :class:`SourceParts`.
        reads: the link before it; None: it makes its items itself.
        writes: the link behind it.
        worker: the process that it runs in where stages are processes.
        each: whether there is one for each stream, one for each shard of the streams, or one of the run.
        needs: what has to be opened for it.
        paces: the link whose batches follow how long it took.
        joined: where stages are threads, it runs in those of the stage before it.
    """

    name: str
    called: str
    make: Callable[[Any], StageFunction]
    reads: Link | None
    writes: Link
    worker: Worker
    each: Literal["stream", "shard", "run"] = "run"
    needs: tuple[Need, ...] = ()
    paces: Link | None = None
    joined: bool = False


@dataclass(frozen=True, slots=True)
class SourceParts:
    """What the capture of one stream is made of.

    Attributes:
        settings: of the stream.
        rates: tells how many of its frames are inferred, which may change.
        source: gives the frames; None: :func:`pipeline.sources.capture.capture`.
        stop: ends it.
        health: hears what happens to the stream.
        seen: frames that an earlier capture gave, which crashed.
        base: frames that streams of this name gave before this one was added, which ``seq`` counts on from.
        over: whether it was stopped, or said that it ends.
        more: arguments of the source.
    """

    settings: StreamSettings
    rates: Callable[[], Rates]
    source: Capture | None
    stop: threading.Event
    health: Tell
    seen: int
    base: int
    over: Callable[[], bool]
    more: dict[str, Any]


def _capture(parts: SourceParts) -> StageFunction:
    def stage(_: Iterator[Any]) -> Iterator[Frame]:
        source = parts.source or capture.capture
        given = source(parts.settings, stop=parts.stop, health=parts.health, first_seq=parts.seen, **parts.more)
        cuts = mark_cuts(_numbered(given, parts.base))
        live = capture.waits_for_nobody(parts.settings)
        return until_over(mark_skipped(cuts, parts.rates, live=live), parts.over)

    return stage


def _numbered(frames: Iterable[Frame], base: int) -> Iterable[Frame]:
    return (replace(frame, seq=base + frame.seq) for frame in frames) if base else frames


def _preprocess(parts: Parts) -> StageFunction:
    def stage(batches: Iterator[Batch]) -> Iterator[Prepared]:
        step = preprocess.place_only if parts.config.inference.preprocess == "gpu" else preprocess.preprocess
        most = parts.config.inference.max_batch
        return step(batches, parts.size, parts.array or preprocess.new_array, parts.crops, most)

    return stage


def _start(parts: Parts) -> StageFunction:
    def stage(prepared: Iterator[Prepared]) -> Iterator[Started]:
        if parts.planes_engine is not None:
            return inference.start_planes(prepared, parts.planes_engine)
        assert parts.frame_engine is not None
        return inference.start(prepared, parts.frame_engine)

    return stage


def _collect(parts: Parts) -> StageFunction:
    def stage(started: Iterator[Started]) -> Iterator[Inferred]:
        inferred = inference.collect(started)
        return inferred if parts.traces is None else _told(inferred, parts.traces.batch)

    return stage


def _postprocess(parts: Parts) -> StageFunction:
    assert parts.postprocessor is not None
    return parts.postprocessor.stage


def _publish(parts: Parts) -> StageFunction:
    def stage(results: Iterator[Result]) -> Iterator[Result]:
        assert parts.event_publisher is not None
        published = publish(results, parts.event_publisher)
        return published if parts.traces is None else _told(published, parts.traces.frame)

    return stage


def _told(items: Iterable[T], tell: Callable[[T], None]) -> Iterator[T]:
    """Tell of each item and pass it on."""
    for item in items:
        tell(item)
        yield item


def _embed(parts: Parts) -> StageFunction:
    assert parts.faces is not None
    return parts.faces.embed


STAGES: Final = (
    Stage("capture", "capture", _capture, None, "frames", "capture", each="stream", needs=("source",)),
    Stage("preprocess", "preprocess", _preprocess, "frames", "prepared", "prepare", needs=("crops",)),
    Stage("start", "infer", _start, "prepared", "started", "infer", needs=("frame engine",)),
    Stage("collect", "infer", _collect, "started", "inferred", "infer", needs=("traces",), paces="frames"),
    Stage(
        "postprocess",
        "postprocess",
        _postprocess,
        "inferred",
        "results",
        "postprocess",
        each="shard",
        needs=("gallery",),
    ),
    Stage(
        "publish",
        "publish",
        _publish,
        "results",
        "messages",
        "finish",
        needs=("publisher", "recorder", "traces"),
        joined=True,
    ),
)
SOURCE: Final = next(stage for stage in STAGES if stage.each == "stream")
STEPS: Final = tuple(stage for stage in STAGES if stage.each != "stream")  # in the order of the way of a frame
# Beside that way, in the process of whoever asks; there with a gallery alone.
FACES: Final = Stage("faces", "face entry", _embed, "faces", "answers", "postprocess", needs=("face engine",))


def chained(stages: Iterable[Stage], parts: Parts) -> StageFunction:
    """One function for stages that follow each other in one thread."""
    functions = [stage.make(parts) for stage in stages]

    def run(items: Iterator[Any]) -> Iterator[Any]:
        for function in functions:
            items = function(items)
        return items

    return run


def needs_of(stages: Iterable[Stage]) -> frozenset[Need]:
    """All that has to be opened for some stages."""
    return frozenset(need for stage in stages for need in stage.needs)


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """The processes of a run and the number of each, from 0, in the order of the way of a frame; then the captures.

    A single shard is in the process that publishes: one process less that each frame goes through.
    """

    shards: int = 1

    def _worker(self, stage: Stage) -> Worker:
        return "finish" if stage.worker == "postprocess" and self.shards == 1 else stage.worker

    @property
    def workers(self) -> tuple[Worker, ...]:
        """What each process is, by number, but for the captures."""
        kinds = dict.fromkeys(self._worker(stage) for stage in STEPS)
        return tuple(kind for kind in kinds for _ in range(self.shards if kind == "postprocess" else 1))

    @property
    def names(self) -> tuple[str, ...]:
        """Of those."""
        first = self.readers("inferred")[0]
        return tuple(
            f"{kind} {number - first}" if kind == "postprocess" else kind for number, kind in enumerate(self.workers)
        )

    @property
    def finish(self) -> int:
        """The number of the process that publishes, which is the last."""
        return len(self.workers) - 1

    @property
    def first_capture(self) -> int:
        """The number of the first process that captures."""
        return len(self.workers)

    def worker(self, number: int) -> Worker:
        """What a process is."""
        return self.workers[number] if number < self.first_capture else SOURCE.worker

    def stages_of(self, worker: Worker) -> tuple[Stage, ...]:
        """What a process of this kind runs, in order; the face entry apart."""
        return tuple(stage for stage in STAGES if self._worker(stage) == worker)

    def readers(self, link: Link) -> tuple[int, ...]:
        """The numbers of the processes that read a link: one of each shard, or one."""
        kind = next(self._worker(stage) for stage in STEPS if stage.reads == link)
        return tuple(number for number, each in enumerate(self.workers) if each == kind)

    def reader(self, link: Link) -> int:
        """The number of the one process that reads a link."""
        (number,) = self.readers(link)
        return number
