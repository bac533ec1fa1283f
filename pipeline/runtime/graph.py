"""Which stage follows which: the one wiring of a run.

Threads (:mod:`pipeline.runtime.threads`) and processes (:mod:`pipeline.runtime.processes`) both take it from here, and
nothing else knows the order. A stage reads one link and writes one; the thread or process that runs it opens what it
needs. Functions import what they make: a process loads only the stages that it runs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.frames.types import Batch, Frame, Inferred, Prepared, Result

if TYPE_CHECKING:
    import threading

    from pipeline.inference.stage import Started
    from pipeline.runtime.capturing import Tell
    from pipeline.runtime.parts import Need, Parts
    from pipeline.settings.schema import InferenceSettings, StreamSettings
    from pipeline.sources.capture import Capture

# frames: batched across the streams (FrameLink). results: what the run publishes. The others: bounded, in order.
Link = Literal["frames", "prepared", "started", "inferred", "results"]
Worker = Literal["capture", "prepare", "infer", "finish"]  # the processes, with links = "zmq"
StageFunction = Callable[[Iterator[Any]], Iterator[Any]]


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
        each: whether there is one for each stream, or one of the run.
        needs: what has to be opened for it.
        paces: the link whose batches follow how long it took.
    """

    name: str
    called: str
    make: Callable[[Any], StageFunction]
    reads: Link | None
    writes: Link
    worker: Worker
    each: Literal["stream", "run"] = "run"
    needs: "tuple[Need, ...]" = ()
    paces: Link | None = None


@dataclass(frozen=True, slots=True)
class SourceParts:
    """What the capture of one stream is made of.

    Attributes:
        settings: of the stream.
        inference: tells whether frames that show nothing new are inferred.
        source: gives the frames; None: :func:`pipeline.sources.capture.capture`.
        stop: ends it.
        health: hears what happens to the stream.
        seen: frames that an earlier capture gave, which crashed.
        base: frames that streams of this name gave before this one was added, which ``seq`` counts on from.
        over: whether it was stopped, or said that it ends.
        more: arguments of the source.
    """

    settings: "StreamSettings"
    inference: "InferenceSettings"
    source: "Capture | None"
    stop: "threading.Event"
    health: "Tell"
    seen: int
    base: int
    over: Callable[[], bool]
    more: dict[str, Any]


def _capture(parts: SourceParts) -> StageFunction:
    from pipeline.runtime.supervision import until_over
    from pipeline.sources import capture as sources  # each looked up when it is needed, here and below
    from pipeline.sources.cuts import mark_cuts
    from pipeline.sources.unchanged import mark_unchanged

    def stage(_: Iterator[Any]) -> Iterator[Frame]:
        source = parts.source or sources.capture
        given = source(parts.settings, stop=parts.stop, health=parts.health, first_seq=parts.seen, **parts.more)
        return until_over(mark_cuts(mark_unchanged(_numbered(given, parts.base), parts.inference)), parts.over)

    return stage


def _numbered(frames: Iterable[Frame], base: int) -> Iterable[Frame]:
    return (replace(frame, seq=base + frame.seq) for frame in frames) if base else frames


def _preprocess(parts: "Parts") -> StageFunction:
    from pipeline.inference import preprocess as steps

    def stage(batches: Iterator[Batch]) -> Iterator[Prepared]:
        step = steps.place_only if parts.config.inference.preprocess == "gpu" else steps.preprocess
        return step(batches, parts.size, parts.array or steps.new_array)

    return stage


def _start(parts: "Parts") -> StageFunction:
    from pipeline.inference import stage as steps

    def stage(prepared: Iterator[Prepared]) -> "Iterator[Started]":
        if parts.planes_engine is not None:
            return steps.start_planes(prepared, parts.planes_engine)
        assert parts.frame_engine is not None
        return steps.start(prepared, parts.frame_engine)

    return stage


def _collect(parts: "Parts") -> StageFunction:
    from pipeline.inference import stage as steps

    return lambda started: steps.collect(started)


def _postprocess(parts: "Parts") -> StageFunction:
    def stage(inferred: Iterator[Inferred]) -> Iterator[Result]:
        assert parts.postprocessor is not None
        return parts.postprocessor.stage(inferred)

    return stage


STAGES: Final = (
    Stage("capture", "capture", _capture, None, "frames", "capture", each="stream", needs=("source",)),
    Stage("preprocess", "preprocess", _preprocess, "frames", "prepared", "prepare"),
    Stage("start", "infer", _start, "prepared", "started", "infer", needs=("frame engine",)),
    Stage("collect", "infer", _collect, "started", "inferred", "infer", paces="frames"),
    Stage(
        "postprocess",
        "postprocess",
        _postprocess,
        "inferred",
        "results",
        "finish",
        needs=("publisher", "gallery", "face engine", "recorder"),
    ),
)
SOURCE: Final = next(stage for stage in STAGES if stage.each == "stream")
STEPS: Final = tuple(stage for stage in STAGES if stage.each == "run")  # in the order of the way of a frame

# The processes of the run, in that order; each has this place as its number, and those of the sources come after them.
WORKERS: Final = tuple(dict.fromkeys(stage.worker for stage in STEPS))


def stages_of(worker: Worker) -> tuple[Stage, ...]:
    """What a process runs, in order."""
    return tuple(stage for stage in STAGES if stage.worker == worker)


def needs_of(stages: Iterable[Stage]) -> "frozenset[Need]":
    """All that has to be opened for some stages."""
    return frozenset(need for stage in stages for need in stage.needs)


def number(worker: Worker) -> int:
    """The number of a process of the run."""
    return WORKERS.index(worker)


def reader(link: Link) -> int:
    """The number of the process that reads a link."""
    return number(next(stage.worker for stage in STEPS if stage.reads == link))
