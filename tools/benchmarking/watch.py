"""One run of a pipeline, watched from outside: what arrives at a subscriber, and what the processes use."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engines.errors import ConfigError, StageError
from pipeline.settings.schema import Config
from pipeline.sources.capture import Capture, capture
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage, HealthMessage, Message, TimingsMessage
from tools.benchmarking.power import Counter as EnergyCounter
from tools.benchmarking.power import GpuFigures, GpuLog, energy, gpu_log, joules_between
from tools.benchmarking.processes import Usage, usage
from tools.benchmarking.runner import PipelineProcess

FIRST_S: Final = 60.0  # for the first message of every stream
LAST_S: Final = 60.0  # after the end of the measurement, for the last messages
LOOK_S: Final = 0.05  # between two looks at the clock when no message comes


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame's message."""

    at_s: float  # time.monotonic() when it arrived; the clock is one for all processes of a machine
    stream: str
    timings_ms: TimingsMessage
    objects: int
    faces: int
    dropped: Mapping[str, int]  # of its stream before it, by cause


@dataclass(frozen=True, slots=True)
class Reading:
    """What the processes of the run had used at one moment."""

    at_s: float
    usage: Usage
    energy: dict[str, EnergyCounter]


@dataclass(frozen=True, slots=True)
class Watched:
    """A run between two readings."""

    begin: Reading
    end: Reading
    heard: tuple[Heard, ...]  # between the two
    dropped_before: Mapping[
        str, Mapping[str, int]
    ]  # by stream, then cause, of the last message before the first reading
    received: int  # messages over the whole run
    missed: int  # that were sent and did not arrive
    gpu: GpuFigures | None
    books: dict[str, Any]  # the run's own, its start included
    cut_short: bool  # the judge had seen enough

    @property
    def seconds(self) -> float:
        return self.end.at_s - self.begin.at_s

    @property
    def cpu_s(self) -> float:
        return self.end.usage.cpu_s - self.begin.usage.cpu_s

    @property
    def joules(self) -> float | None:
        return joules_between(self.begin.energy, self.end.energy)

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were given up between the readings, by cause, as far as messages tell."""
        last: dict[str, Mapping[str, int]] = {one.stream: one.dropped for one in self.heard}
        total: Counter[str] = Counter()
        for stream, counts in last.items():
            total.update(counts)
            total.subtract(self.dropped_before.get(stream, {}))
        return +total


Judge = Callable[[Sequence[Heard], Mapping[str, Mapping[str, int]]], bool]


def watch(
    config: Config,
    warm_up_s: float,
    seconds: float,
    enough: Judge = lambda heard, before: False,
    source: Capture = capture,
) -> Watched:
    """Run a configuration, and measure it for ``seconds`` once every stream is up and a warm-up has passed.

    Args:
        config: what to run; its streams must not end by themselves.
        warm_up_s: from the first message of the last stream to the first reading.
        seconds: between the readings.
        enough: is shown, after each message, what was heard since the first reading and what had been dropped before
            it; True ends the measurement early.
        source: what gives the frames of each stream.

    Raises:
        TrunklineError: what the run raises, or it could not be measured.
    """
    with (
        PipelineProcess(config, source) as runner,
        Subscriber(runner.start(), types=["frame", "health"]) as subscriber,
        gpu_log() as gpus,
    ):
        return _Watch(config, runner, subscriber, gpus).run(warm_up_s, seconds, enough)


class _Watch:
    def __init__(self, config: Config, runner: PipelineProcess, subscriber: Subscriber, gpus: GpuLog) -> None:
        self._streams = frozenset(stream.name for stream in config.streams)
        self._runner = runner
        self._subscriber = subscriber
        self._gpus = gpus
        self._heard: list[Heard] = []
        self._dropped: dict[str, Mapping[str, int]] = defaultdict(dict)
        self._ended: set[str] = set()
        self._received = 0

    def run(self, warm_up_s: float, seconds: float, enough: Judge) -> Watched:
        self._until(FIRST_S, lambda: self._streams <= self._dropped.keys())
        if not self._streams <= self._dropped.keys():
            self._refuse("no message of some stream came")
        self._until(warm_up_s)
        self._heard.clear()
        before = dict(self._dropped)
        mark, begin = self._gpus.mark(), self._read()
        self._until(seconds, lambda: enough(self._heard, before))
        end, gpu = self._read(), self._gpus.since(mark)
        cut_short = end.at_s - begin.at_s < seconds
        heard = tuple(one for one in self._heard if one.at_s < end.at_s)
        self._runner.stop()
        self._until(LAST_S, lambda: self._ended >= self._streams)
        books = self._runner.books()
        if not heard and not cut_short:
            raise ConfigError("--seconds must be longer on this machine: it passed without a frame")
        missed = sum(self._subscriber.missed.values())
        return Watched(begin, end, heard, before, self._received, missed, gpu, books, cut_short)

    def _until(self, within_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Take messages for so long, or until something is so."""
        end_s = time.monotonic() + within_s
        while (left_s := end_s - time.monotonic()) > 0.0 and not done():
            message = self._subscriber.receive(min(left_s, LOOK_S))
            if message is not None:
                self._take(message)
            elif self._runner.over:
                return

    def _take(self, message: Message) -> None:
        if isinstance(message, FrameMessage):
            self._received += 1
            self._dropped[message.stream] = message.dropped
            counts = len(message.objects), len(message.faces)
            self._heard.append(
                Heard(time.monotonic(), message.stream, message.timings_ms, *counts, dropped=message.dropped)
            )
        elif isinstance(message, HealthMessage) and message.state == "ended":
            self._ended.add(message.stream)

    def _refuse(self, reason: str) -> None:
        self._runner.stop()
        self._runner.books()  # raises what ended the run, if it did
        raise StageError(f"the pipeline was not measured: {reason} within {FIRST_S:g} s")

    def _read(self) -> Reading:
        return Reading(time.monotonic(), usage(self._runner.pid), energy())
