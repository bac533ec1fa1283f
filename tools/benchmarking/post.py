"""All that follows the engine, alone: raw outputs into tracks, names, smoothed labels and messages on a socket."""

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import zmq

from engines.errors import StageError
from engines.spec import EntrySpec, ModelSpec, NetworkSettings
from pipeline.frames.counters import FrameCounters
from pipeline.frames.stage_times import StageTimes
from pipeline.gallery.gallery import Gallery
from pipeline.identity.face_entry import DirectFaces
from pipeline.identity.stage import Identifier, identify
from pipeline.inference.stage import detect
from pipeline.runtime.event_publisher import EventPublisher, publish
from pipeline.runtime.postprocess import low_score_thresholds
from pipeline.settings.schema import IdentitySettings, PublishSettings, SmoothingSettings, TrackingSettings
from pipeline.sinks.zmq import Publisher
from pipeline.smoothing.stage import Smoothers, smooth
from pipeline.tracking.stage import Trackers, track
from tools.benchmarking import crowd
from tools.benchmarking.clip import STREAM
from tools.benchmarking.crowd import Crowd, make_crowd
from tools.benchmarking.figures import Spread, Window, measure

STEPS: Final = ("detect", "track", "identify", "smooth", "publish", "books")
CASES: Final = ((50, 10, False), (50, 10, True), (5, 1, False))  # objects, faces, whether they are named
CHUNK: Final = 64  # frames that go through one step before the next begins: reading the clock costs nothing then
MODEL: Final = "0" * 16  # whose embeddings the gallery holds
SUBSCRIBER_S: Final = 30.0  # in which a process can start and subscribe


class PostCase(msgspec.Struct, frozen=True):
    """What frames of one kind cost after the engine; steps run one after the other in one thread."""

    objects: int  # in the picture
    faces: int
    named: bool  # the faces are looked up in a gallery, with a face entry that costs nothing
    frames: int
    face_crops: int  # cut out for the face entry
    cpu_ms_per_frame: Spread  # of the process: the steps and the socket's own thread
    frames_per_s_per_core: Spread
    steps_cpu_ms_per_frame: dict[str, Spread]


class PostFigures(msgspec.Struct, frozen=True):
    """Made outputs of the frame entry through everything that follows it, to one subscriber."""

    object_rows: int  # of the raw outputs of each frame
    face_rows: int
    cases: tuple[PostCase, ...]


def measure_post(seconds: float) -> PostFigures:
    """Take crowded frames, without and with names, and quiet ones from the engine's raw outputs to the socket.

    Raises:
        StageError: the process that subscribes did not start.
    """
    with ExitStack() as opened:
        publisher = opened.enter_context(Publisher(PublishSettings(address="tcp://127.0.0.1:0")))
        opened.enter_context(_subscriber(publisher))
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        cases = []
        for objects, faces, named in CASES:
            gallery = opened.enter_context(_gallery(folder / "people.sqlite")) if named else None
            steps = Steps(make_crowd(objects, faces), publisher, gallery)
            windows = measure(steps.take_chunk, seconds / len(CASES))
            cases.append(_case(objects, faces, steps, windows))
    return PostFigures(crowd.OBJECT_ROWS, crowd.FACE_ROWS, tuple(cases))


class Steps:
    """Everything after the engine, for one stream.

    Attributes:
        chunks: CPU seconds of each step for each chunk of frames so far.
        identifier: None where faces are not looked up.
    """

    def __init__(self, people: Crowd, publisher: Publisher, gallery: Gallery | None) -> None:
        entry = EntrySpec("made", "", crowd.INPUT[1], crowd.INPUT[0], {})
        spec = ModelSpec(1, "made", entry, entry, crowd.LABELS, crowd.SCENES, NetworkSettings())
        sure = spec.thresholds
        self.chunks: list[tuple[float, ...]] = []
        self.identifier = None
        if gallery is not None:
            engine = crowd.BandEngine()
            self.identifier = Identifier(DirectFaces(engine), gallery, IdentitySettings(), sure.identity_similarity)
        self._thresholds = low_score_thresholds(sure, TrackingSettings().low_score_ratio)
        self._batches = people.batches(STREAM)
        self._trackers = Trackers(TrackingSettings(), sure, crowd.PERSON)
        self._smoothers = Smoothers(SmoothingSettings(), len(spec.objects), len(spec.scenes))
        self._announcer = EventPublisher(publisher, FrameCounters(), spec)
        self._times = StageTimes()

    def take_chunk(self) -> None:
        """Take the next frames through each step in turn."""
        inferred = list(islice(self._batches, CHUNK))
        marks = [time.thread_time()]
        observed = list(detect(inferred, self._thresholds))
        marks.append(time.thread_time())
        tracked = list(track(observed, self._trackers))
        marks.append(time.thread_time())
        identified = list(identify(tracked, self.identifier))
        marks.append(time.thread_time())
        smoothed = list(smooth(identified, self._smoothers))
        marks.append(time.thread_time())
        published = list(publish(smoothed, self._announcer))
        marks.append(time.thread_time())
        for result in published:
            self._times.add(result)
        marks.append(time.thread_time())
        self.chunks.append(tuple(end - start for start, end in pairwise(marks)))


def _case(objects: int, faces: int, steps: Steps, windows: list[Window]) -> PostCase:
    counts = [len(window.laps_ms) for window in windows]
    ends = len(steps.chunks) - sum(counts) + np.cumsum([0, *counts])  # what came before was the warm-up
    per_step = np.array([np.mean(steps.chunks[start:end], axis=0) for start, end in pairwise(ends)]) * 1e3 / CHUNK
    cpu_ms = [1e3 * window.cpu_seconds / (CHUNK * count) for window, count in zip(windows, counts, strict=True)]
    return PostCase(
        objects=objects,
        faces=faces,
        named=steps.identifier is not None,
        frames=CHUNK * sum(counts),
        face_crops=steps.identifier.crops if steps.identifier else 0,
        cpu_ms_per_frame=Spread.of(cpu_ms),
        frames_per_s_per_core=Spread.of([1e3 / ms for ms in cpu_ms]),
        steps_cpu_ms_per_frame={step: Spread.of(per_step[:, row].tolist()) for row, step in enumerate(STEPS)},
    )


@contextmanager
def _gallery(file: Path) -> Iterator[Gallery]:
    """A gallery that knows everybody in the crowd."""
    with Gallery(file, MODEL) as gallery:
        for band, embedding in enumerate(crowd.embeddings()):
            gallery.enroll(f"person {band}", embedding[None], ["made"])
        yield gallery


@contextmanager
def _subscriber(publisher: Publisher) -> Iterator[None]:
    """A process that subscribes to everything and keeps nothing."""
    process = multiprocessing.get_context("spawn").Process(target=_listen, args=(publisher.address,), daemon=True)
    process.start()
    try:
        if not publisher.wait_for_subscriber(SUBSCRIBER_S):
            raise StageError(f"the benchmark's subscriber did not subscribe within {SUBSCRIBER_S:g} s")
        yield
    finally:
        process.terminate()
        process.join()


def _listen(address: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for whoever started this
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.connect(address)
        while True:
            socket.recv_multipart(copy=False)
