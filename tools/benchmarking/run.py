"""Runs of a pipeline, each a process of its own, watched from outside: what a subscriber hears, what processes use."""

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, Literal

from engines.errors import ConfigError, StageError, TrunklineError
from engines.spec import load_model
from pipeline.runtime.logs import LogSettings, configure_logging, log_settings
from pipeline.service.run import run
from pipeline.settings import schema
from pipeline.settings.schema import Config, ModelSettings
from pipeline.sources.capture import Capture, capture
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage, HealthMessage
from tools.benchmarking.figures import Percentiles
from tools.benchmarking.power import GpuFigures, energy, gpu_log, joules_between, summarise
from tools.benchmarking.processes import Usage, child, usage

START_S: Final = 120.0  # to open an engine and bind, on a slow machine
FIRST_S: Final = 60.0  # for the first message of every stream
LAST_S: Final = 60.0  # after the end of the measurement, for the last messages
END_S: Final = 90.0  # for the frames on their way, and the books
LEAVE_S: Final = 5.0  # to end once the books are here
LOOK_S: Final = 0.05  # between two looks at the clock when no message comes
MIB: Final = 2**20

Links = Literal["queue", "zmq"]
Tell = Callable[[str], None]  # hears what is run
Dropped = Mapping[str, Mapping[str, int]]  # frames that were given up, by stream and cause
Said = str | dict[str, Any] | BaseException  # an address, the books, or what went wrong


@dataclass(frozen=True, slots=True)
class Setup:
    """What every run of a benchmark is made of."""

    sources: tuple[str, ...]  # files that are long enough to be played for a while
    model: ModelSettings
    links: Links
    folder: Path  # for what a run needs
    preprocess: Literal["cpu", "gpu"] = "cpu"
    decode: Literal["ffmpeg", "nvdec", "vaapi"] = "ffmpeg"
    inferred: float | None = None  # frames a second of each stream that the network sees; None: all
    detect_sources: tuple[str, ...] = ()  # smaller copies of the sources, decoded in their place; none: they are not

    def config(self, streams: int, pace: Literal["fast", "camera"], **inference: Any) -> Config:
        """Return a run of so many streams, which play the files in turn, over and over."""
        # An empty gallery: nobody is known, and the faces go through the face entry all the same.
        tells_people = {"faces", "identity"} <= set(load_model(self.model.path).spec.network.tasks)
        files = [self.sources[number % len(self.sources)] for number in range(streams)]
        same: dict[str, Any] = {"decode": self.decode, "decode_gpu": self.model.gpu or 0, "pace": pace}
        same["loop"] = not self.detect_sources  # two files begin at the same moment once
        detect = dict(zip(self.sources, self.detect_sources, strict=bool(self.detect_sources)))
        if self.inferred is not None:
            inference["fps"] = self.inferred
        return Config(
            streams=tuple(
                schema.StreamSettings(name=f"s{number:03}", source=file, detect_source=detect.get(file), **same)
                for number, file in enumerate(files)
            ),
            model=self.model,
            inference=schema.InferenceSettings(preprocess=self.preprocess, **inference),
            identity=schema.IdentitySettings(gallery=str(self.folder / "gallery.sqlite") if tells_people else None),
            publish=schema.PublishSettings(address="tcp://127.0.0.1:*"),
            links=self.links,
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """What a run did between two readings."""

    seconds: float
    cpu_s: float  # of all its processes
    begin: Usage
    end: Usage
    heard: tuple[FrameMessage, ...]
    dropped: Mapping[str, int]  # by cause, as far as messages tell
    received: int  # messages over the whole run
    missed: int  # that were sent and did not arrive
    joules: float | None  # of the processor's packages; None: not readable
    gpu: GpuFigures | None
    books: dict[str, Any]  # the run's own, its start included
    cut_short: bool  # the judge had seen enough

    @property
    def per_s(self) -> float:
        return len(self.heard) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Of a frame."""
        return 1e3 * self.cpu_s / len(self.heard)

    @property
    def cores_used(self) -> float:
        return self.cpu_s / self.seconds

    @property
    def rss_mib(self) -> float:
        return self.end.rss_bytes / MIB


def latency(runs: Sequence[Watched], step: str = "total") -> Percentiles:
    """Return how long the frames of runs took from capture to message, or in a part of that."""
    return Percentiles.of([getattr(one.timings_ms, step) for run in runs for one in run.heard])


def dropped_since(heard: Sequence[FrameMessage], before: Dropped) -> Counter[str]:
    """Return what messages tell of frames that were given up since others, by cause."""
    total: Counter[str] = Counter()
    for stream, counts in {one.stream: one.dropped for one in heard}.items():
        total.update(counts)
        total.subtract(before.get(stream, {}))
    return +total


Judge = Callable[[FrameMessage, Dropped], bool]


def watch(
    config: Config,
    seconds: float,
    warm_up_s: float,
    enough: Judge = lambda message, before: False,
    source: Capture = capture,
) -> Watched:
    """Run a configuration, and measure it for ``seconds`` once every stream is up and a warm-up has passed.

    Args:
        config: what to run; its streams must not end by themselves.
        seconds: between the two readings.
        warm_up_s: from the first message of the last stream to the first reading.
        enough: is shown each message, and what had been dropped at the first reading; True ends the measurement early.
        source: what gives the frames of each stream.

    Raises:
        TrunklineError: what the run raises, or it could not be measured.
    """
    streams = {stream.name for stream in config.streams}
    with _pipeline(config, source) as pipeline, gpu_log() as gpus:
        pipeline.listen(FIRST_S, lambda _: streams <= pipeline.dropped.keys())
        if not streams <= pipeline.dropped.keys():
            pipeline.books()  # raises what ended the run, if anything did
            raise StageError(f"the pipeline was not measured: no message of some stream came within {FIRST_S:g} s")
        pipeline.listen(warm_up_s)
        pipeline.heard.clear()
        before, mark, begin = dict(pipeline.dropped), len(gpus), pipeline.read()
        cut_short = pipeline.listen(seconds, lambda frame: frame is not None and enough(frame, before))
        heard, end, gpu = tuple(pipeline.heard), pipeline.read(), summarise(gpus[mark:])
        books = pipeline.books(lambda: pipeline.listen(LAST_S, lambda _: pipeline.ended >= streams))
        received, missed = pipeline.received, sum(pipeline.subscriber.missed.values())
    if not heard and not cut_short:
        raise ConfigError("--seconds must be longer on this machine: it passed without a frame")
    return Watched(
        seconds=end[0] - begin[0],
        cpu_s=end[1].cpu_s - begin[1].cpu_s,
        begin=begin[1],
        end=end[1],
        heard=heard,
        dropped=dropped_since(heard, before),
        received=received,
        missed=missed,
        joules=joules_between(begin[2], end[2]),
        gpu=gpu,
        books=books,
        cut_short=cut_short,
    )


class _Pipeline:
    """A run in a process of its own: what is measured of it has nothing of the benchmark in it."""

    def __init__(self, process: BaseProcess, pipe: "Connection[None, Said]") -> None:
        self._process = process
        self._pipe = pipe
        # Where the run waits for somebody to subscribe.
        self.subscriber = Subscriber(str(self._said(START_S)), types=["frame", "health"])
        self.heard: list[FrameMessage] = []
        self.dropped: dict[str, Mapping[str, int]] = {}  # so far
        self.ended: set[str] = set()
        self.received = 0

    def read(self) -> tuple[float, Usage, Any]:
        """Return the time, and what the processes and the machine have used so far."""
        assert self._process.pid is not None
        return time.monotonic(), usage(self._process.pid), energy()

    def listen(self, within_s: float, done: Callable[[FrameMessage | None], bool] = lambda _: False) -> bool:
        """Take messages for so long, or until one is the last wanted or the run is over; whether it ended early.

        ``done`` is shown each; None: it is no frame's.
        """
        end_s = time.monotonic() + within_s
        while (left_s := end_s - time.monotonic()) > 0.0:
            message = self.subscriber.receive(min(left_s, LOOK_S))
            if isinstance(message, FrameMessage):
                self.received += 1
                self.dropped[message.stream] = message.dropped
                self.heard.append(message)
            elif isinstance(message, HealthMessage) and message.state == "ended":
                self.ended.add(message.stream)
            elif message is None and (self._pipe.poll() or not self._process.is_alive()):
                return True
            if message is not None and done(message if isinstance(message, FrameMessage) else None):
                return True
        return False

    def books(self, meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """Stop the run; return what ``trunkline run --json`` prints of it. TrunklineError: what the run raises."""
        with suppress(OSError):  # it died
            self._pipe.send(None)
        meanwhile()
        books = self._said(END_S)
        assert isinstance(books, dict)
        return books

    def _said(self, within_s: float) -> Said:
        if not self._pipe.poll(within_s):
            raise StageError(f"the pipeline that is measured said nothing within {within_s:g} s")
        try:
            said = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise StageError("the pipeline that is measured died") from None
        if isinstance(said, BaseException):
            raise said
        return said


@contextmanager
def _pipeline(config: Config, source: Capture) -> Iterator[_Pipeline]:
    own = log_settings() or LogSettings()  # without what many streams say of themselves while all is well
    quiet = replace(own, level="warning") if own.level in ("debug", "info") else own
    here, there = multiprocessing.get_context("spawn").Pipe()
    with child(_run, config, source, quiet, there, leave_s=LEAVE_S) as process, here:
        there.close()  # the child has its own; without this one its death is noticed
        pipeline = _Pipeline(process, here)
        with pipeline.subscriber:
            yield pipeline


def _run(config: Config, source: Capture, logs: LogSettings, pipe: "Connection[Said, None]") -> None:
    configure_logging(logs)
    stop = threading.Event()
    threading.Thread(target=_await_end, args=(pipe, stop), daemon=True).start()
    said: Said
    try:
        said = run(config, stop=stop, wait_for_subscriber_s=START_S, started=pipe.send, source=source).to_json()
    except TrunklineError as error:
        said = error
    with suppress(OSError):  # nobody wants to hear it any more
        pipe.send(said)


def _await_end(pipe: "Connection[Said, None]", stop: threading.Event) -> None:
    with suppress(EOFError, OSError):  # the benchmark has what it wants, or died
        pipe.recv()
    stop.set()
