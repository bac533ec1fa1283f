"""The whole pipeline on a clip: as fast as it goes, and at the pace of a camera."""

import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engines.errors import ConfigError, StageError
from engines.spec import load_model
from pipeline.config import Config, IdentitySettings, ModelSettings, PublishSettings, StreamSettings
from pipeline.run import run
from tools.benchmarking.clip import STREAM
from tools.benchmarking.figures import WARM_UP_SHARE, WINDOWS, Percentiles, Spread
from tools.benchmarking.listener import Hearing, Listener

START_S: Final = 60.0  # for the subscriber and the first message, on a slow machine
STEPS: Final = ("total", "queue", "infer", "post")  # of a message's timings


class PipelineFigures(msgspec.Struct, frozen=True):
    """One run, seen by a subscriber in another process."""

    pace: Literal["fast", "realtime"]
    seconds: float  # measured, the warm-up not counted
    frames: int  # whose messages arrived in that time
    frames_per_s: Spread
    cpu_ms_per_frame: Spread  # of this process: decoding to publishing, without the subscriber
    latency_ms: dict[str, Percentiles]  # capture to message, and its parts; see TimingsMessage
    objects_per_frame: float  # what the picture gave the later stages to do
    faces_per_frame: float
    received: int  # messages, from the first to the last of the run
    missed: int  # messages that were sent and did not arrive
    run: dict[str, Any]  # the run's own books, its start included, as ``trunkline run --json`` prints them


class PipelineReport(msgspec.Struct, frozen=True):
    """Throughput comes from a run as fast as it goes, latency from one at the pace of a camera."""

    throughput: PipelineFigures
    latency: PipelineFigures


@dataclass(frozen=True, slots=True)
class Border:
    """Where one window ends and the next begins."""

    at_s: float  # time.monotonic()
    cpu_s: float  # of this process so far


def measure_pipeline(source: str, model: ModelSettings, seconds: float) -> PipelineReport:
    """Run all stages on a file that is read over and over, twice for ``seconds`` after a warm-up.

    Raises:
        TrunklineError: as :func:`pipeline.run.run`; or a frame takes too long for ``seconds``.
    """
    return PipelineReport(_measure(source, model, "fast", seconds), _measure(source, model, "realtime", seconds))


def _measure(source: str, model: ModelSettings, pace: Literal["fast", "realtime"], seconds: float) -> PipelineFigures:
    stop = threading.Event()
    borders: list[Border] = []
    with tempfile.TemporaryDirectory(prefix="trunkline-benchmark-") as folder, Listener() as listener:
        clock = threading.Thread(target=_keep_time, args=(listener, seconds, stop, borders), daemon=True)

        def started(address: str) -> None:
            listener.start(address)
            clock.start()

        # An empty gallery: nobody is known, and the faces go through the face entry all the same.
        tells_people = {"faces", "identity"} <= set(load_model(model.path).spec.network.tasks)
        config = Config(
            streams=(StreamSettings(name=STREAM, source=source, pace=pace, loop=True),),
            model=model,
            identity=IdentitySettings(gallery=str(Path(folder) / "gallery.sqlite") if tells_people else None),
            publish=PublishSettings(address="tcp://127.0.0.1:*"),
        )
        summary = run(config, stop=stop, wait_for_subscriber_s=START_S, started=started)
        stop.set()  # a file without a picture ends by itself
        clock.join()
        hearing = listener.hearing()
    if len(borders) <= WINDOWS:
        raise StageError(f"the pipeline was not measured: {len(hearing.heard)} messages arrived before it ended")
    return summarise(pace, borders, hearing, summary.to_json())


def _keep_time(listener: Listener, seconds: float, stop: threading.Event, borders: list[Border]) -> None:
    """Note the borders of the windows, from a while after the first message on, then stop the run."""
    end_s = time.monotonic() + START_S
    while not listener.heard_first(timeout_s=0.1) and not stop.is_set() and time.monotonic() < end_s:
        pass
    stop.wait(WARM_UP_SHARE * seconds)
    while not stop.is_set() and len(borders) < WINDOWS:
        borders.append(_now())
        stop.wait(seconds / WINDOWS)
    if not stop.is_set():
        borders.append(_now())
    stop.set()


def _now() -> Border:
    return Border(time.monotonic(), time.process_time())


def summarise(
    pace: Literal["fast", "realtime"], borders: Sequence[Border], hearing: Hearing, books: dict[str, Any]
) -> PipelineFigures:
    """The figures of a run from the messages between the borders of its windows.

    Raises:
        ConfigError: a window has no message.
    """
    windows = list(pairwise(borders))
    heard = [[one for one in hearing.heard if a.at_s <= one.at_s < b.at_s] for a, b in windows]
    if not all(heard):
        raise ConfigError("--seconds must be longer on this machine: a third of it passed without a frame")
    everything = [one for window in heard for one in window]
    return PipelineFigures(
        pace=pace,
        seconds=round(borders[-1].at_s - borders[0].at_s, 3),
        frames=len(everything),
        frames_per_s=Spread.of([len(some) / (b.at_s - a.at_s) for some, (a, b) in zip(heard, windows, strict=True)]),
        cpu_ms_per_frame=Spread.of(
            [1e3 * (b.cpu_s - a.cpu_s) / len(some) for some, (a, b) in zip(heard, windows, strict=True)]
        ),
        latency_ms={step: Percentiles.of([getattr(one.timings_ms, step) for one in everything]) for step in STEPS},
        objects_per_frame=_mean([one.objects for one in everything]),
        faces_per_frame=_mean([one.faces for one in everything]),
        received=len(hearing.heard),
        missed=hearing.missed,
        run=books,
    )


def _mean(counts: list[int]) -> float:
    return round(sum(counts) / len(counts), 2)
