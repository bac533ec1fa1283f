"""All that follows the engine, alone: made outputs of crowded scenes into tracks, names, labels and messages."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice, pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from engines.arrays import Double, Float, Pictures, Rows
from engines.backends.base import Running, StartedEngine
from engines.boxes import letterbox
from engines.errors import StageError
from engines.spec import EntrySpec, ModelSpec, NetworkSettings
from pipeline.frames.counters import FrameCounters
from pipeline.frames.picture import Picture
from pipeline.frames.types import Batch, Frame, Inferred, Prepared
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
from tools.benchmarking.clip import RATE, STREAM
from tools.benchmarking.figures import Spread, Window, measure
from tools.benchmarking.listener import listen
from tools.benchmarking.processes import child

# Objects, faces, whether they are named, streams in a batch.
CASES: Final = ((50, 10, False, 1), (50, 10, False, 8), (50, 10, True, 1), (5, 1, False, 1))
CHUNK: Final = 64  # frames that go through one step before the next begins: reading the clock costs nothing then
MODEL: Final = "0" * 16  # whose embeddings the gallery holds
SUBSCRIBER_S: Final = 30.0  # in which a process can start and subscribe

PERSON: Final = 0  # label
LABELS: Final = ("person", *(f"thing {number}" for number in range(1, 23)))
SCENES: Final = tuple(f"scene {number}" for number in range(11))
OBJECT_ROWS: Final = 300  # the frame entry's top-k
FACE_ROWS: Final = 100
SOURCE: Final = (1920, 1080)  # width, height in pixels
INPUT: Final = (640, 384)
CYCLE: Final = 256  # frames until everything is where it began
ROWS_EACH: Final = 12  # anchor points that see one thing; so many as with the released model on photographs
HIDDEN: Final = 0.02  # share of the frames in which a thing is not seen
MISLABELLED: Final = 0.03  # share of the frames in which an object has another label
JITTER: Final = 0.02  # of a box's corners, as a share of its sides
BACKGROUND: Final = 0.1  # the highest score of rows that see nothing
FACES: Final = 10  # at the most: each has a band of the picture, whose brightness tells who it is
BAND: Final = SOURCE[1] // FACES  # rows of pixels
LEVELS: Final = 255 // FACES  # grey levels between two bands
FACE_SIDE: Final = 40.0  # source pixels
POINTS: Final = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])  # in a face's box

Outputs = dict[str, Any]  # arrays of the frame entry


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
    streams: int = 1  # whose frames come together, one of each in a batch


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
        opened.enter_context(child(listen, publisher.address))
        if not publisher.wait_for_subscriber(SUBSCRIBER_S):
            raise StageError(f"the benchmark's subscriber did not subscribe within {SUBSCRIBER_S:g} s")
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        cases = []
        for objects, faces, named, streams in CASES:
            gallery = opened.enter_context(_gallery(folder / "people.sqlite")) if named else None
            steps = Steps(make_crowd(objects, faces), publisher, gallery, streams)
            windows = measure(steps.take_chunk, seconds / len(CASES), each=CHUNK)
            cases.append(_case(objects, faces, steps, windows))
    return PostFigures(OBJECT_ROWS, FACE_ROWS, tuple(cases))


class Steps:
    """Everything after the engine, for one or several streams, of which each batch has a frame.

    Attributes:
        steps: from the frames that the step before gave to its own.
        chunks: CPU seconds of each step for each chunk of frames so far.
        identifier: None where faces are not looked up.
    """

    def __init__(self, people: "Crowd", publisher: Publisher, gallery: Gallery | None, streams: int = 1) -> None:
        spec = ModelSpec(1, "made", BandEngine.spec, BandEngine.spec, LABELS, SCENES, NetworkSettings())
        sure = spec.thresholds
        self.chunks: list[list[float]] = []
        self.identifier: Identifier | None = None
        if gallery is not None:
            faces = DirectFaces(BandEngine())
            self.identifier = Identifier(faces, gallery, IdentitySettings(), sure.identity_similarity)
        thresholds = low_score_thresholds(sure, TrackingSettings().low_score_ratio)
        trackers = Trackers(TrackingSettings(), sure, PERSON)
        smoothers = Smoothers(SmoothingSettings(), len(LABELS), len(SCENES))
        announcer = EventPublisher(publisher, FrameCounters(), spec)
        self.streams = streams
        self._batches = people.batches(streams)
        self.steps: dict[str, Callable[[Any], Iterable[Any]]] = {
            "detect": lambda inferred: detect(inferred, lambda: thresholds),
            "track": lambda observed: track(observed, trackers),
            "identify": lambda tracked: identify(tracked, self.identifier),
            "smooth": lambda identified: smooth(identified, smoothers),
            "publish": lambda smoothed: publish(chain.from_iterable(smoothed), announcer),
        }

    def take_chunk(self) -> None:
        """Take the next frames through each step in turn."""
        frames: list[Any] = list(islice(self._batches, CHUNK // self.streams))
        seconds = []
        for step in self.steps.values():
            began = time.thread_time()
            frames = list(step(frames))
            seconds.append(time.thread_time() - began)
        self.chunks.append(seconds)


def _case(objects: int, faces: int, steps: Steps, windows: list[Window]) -> PostCase:
    counts = [len(window.laps_ms) for window in windows]
    ends = len(steps.chunks) - sum(counts) + np.cumsum([0, *counts])  # what came before was the warm-up
    per_step = np.array([np.mean(steps.chunks[start:end], axis=0) for start, end in pairwise(ends)]) * 1e3 / CHUNK
    return PostCase(
        objects=objects,
        faces=faces,
        named=steps.identifier is not None,
        streams=steps.streams,
        frames=CHUNK * sum(counts),
        face_crops=steps.identifier.crops if steps.identifier else 0,
        cpu_ms_per_frame=Spread.of(window.cpu_ms for window in windows),
        frames_per_s_per_core=Spread.of(window.per_core for window in windows),
        steps_cpu_ms_per_frame={step: Spread.of(per_step[:, row].tolist()) for row, step in enumerate(steps.steps)},
    )


@contextmanager
def _gallery(file: Path) -> Iterator[Gallery]:
    """A gallery that knows everybody in the crowd."""
    with Gallery(file, MODEL) as gallery:
        for band, embedding in enumerate(embeddings()):
            gallery.enroll(f"person {band}", embedding[None], ["made"])
        yield gallery


@dataclass(frozen=True, slots=True)
class Crowd:
    """A scene that repeats itself for ever: things that move, hide and are mislabelled."""

    outputs: tuple[Outputs, ...]  # of each frame of the cycle
    picture: Picture

    def batches(self, streams: int) -> Iterator[Inferred]:
        """Give the frames of so many streams as they come from the engine, one of each a batch.

        The streams show the same, each another part of it at a time.
        """
        names, boxes = [STREAM, *(f"{STREAM} {n}" for n in range(1, streams))], (letterbox(SOURCE, INPUT),) * streams
        pixels, outputs = np.zeros((streams, INPUT[1], INPUT[0], 3), np.uint8), self._together(streams)
        for seq in count():
            now = time.monotonic_ns()
            frames = tuple(Frame(name, seq, time.time_ns(), now, seq / RATE, self.picture) for name in names)
            prepared = Prepared(Batch(frames, now), pixels, boxes, now)
            yield Inferred(prepared, outputs[seq % CYCLE], now, now)

    def _together(self, streams: int) -> tuple[Outputs, ...]:
        """The outputs of each batch of the cycle."""
        apart = [[self.outputs[(at + n * CYCLE // streams) % CYCLE] for n in range(streams)] for at in range(CYCLE)]
        return tuple({name: np.concatenate([each[name] for each in row]) for name in row[0]} for row in apart)


def make_crowd(objects: int, faces: int) -> Crowd:
    """Return a scene with so many objects, at least half of them people, and at the most 10 faces, each of a person.

    Seeded: the same at every call.
    """
    rng = np.random.default_rng(20)
    rows = np.arange(objects)
    labels = np.where(rows < max(faces, objects // 2), PERSON, 1 + rows % (len(LABELS) - 1))
    bodies = _paths(rng, objects)
    heads = bodies[:, :faces].copy()
    heads[..., 1] = (np.arange(faces) + 0.5) * BAND
    heads[..., 2:] = FACE_SIDE
    bodies[:, :faces, 1] = heads[..., 1] + 0.35 * bodies[:, :faces, 3]
    scene = np.full((1, len(SCENES)), 0.03, np.float32)
    scene[0, 0] = 1.0 - scene[0, 1:].sum()
    luma = (np.arange(SOURCE[1]) // BAND * LEVELS).astype(np.uint8)[:, None].repeat(SOURCE[0], axis=1)
    chroma = np.full((SOURCE[1] // 2, SOURCE[0] // 2), 128, np.uint8)
    return Crowd(
        tuple({**_frame(rng, bodies[at], labels, heads[at]), "scene": scene} for at in range(CYCLE)),
        Picture((luma, chroma, chroma), *SOURCE, full_range=True),
    )


def _paths(rng: np.random.Generator, things: int) -> Double:
    """Return (CYCLE, things, 4): centre x, y, width, height, source pixels; everything swings about its own place."""
    turns = 2 * np.pi * np.arange(CYCLE)[:, None, None] / CYCLE
    places = rng.uniform((200, 150), (SOURCE[0] - 200, SOURCE[1] - 150), (things, 2))
    swings = rng.uniform(20, 150, (things, 2)) * np.sin(turns + rng.uniform(0, 2 * np.pi, (things, 2)))
    sides = np.broadcast_to(rng.uniform((50, 80), (160, 320), (things, 2)), swings.shape)
    return np.concatenate([places + swings, sides], axis=-1)


def _frame(rng: np.random.Generator, things: Double, labels: Rows, heads: Double) -> Outputs:
    boxes, scores, things_of = _seen(rng, things, OBJECT_ROWS)
    wrong = rng.random(len(things)) < MISLABELLED
    told = np.append(np.where(wrong, rng.integers(len(LABELS), size=len(things)), labels), 0)
    faces, face_scores, _ = _seen(rng, heads, FACE_ROWS)
    points = faces[:, None, :2] + POINTS * (faces[:, None, 2:] - faces[:, None, :2])
    to_input = letterbox(SOURCE, INPUT).to_input
    return {
        "object_boxes": to_input(boxes.astype(np.float32))[None],
        "object_scores": scores,
        "object_labels": told[things_of][None].astype(np.int32),
        "face_boxes": to_input(faces.astype(np.float32))[None],
        "face_scores": face_scores,
        "face_landmarks": to_input(points.astype(np.float32))[None],
    }


def _seen(rng: np.random.Generator, things: Double, rows: int) -> tuple[Double, Float, Rows]:
    """Return boxes (rows, 4), scores (1, rows), best first, and which thing each row sees, -1 for none."""
    each = min(ROWS_EACH, rows // max(len(things), 1))
    things_of = np.full(rows, -1)
    things_of[: each * len(things)] = np.repeat(np.arange(len(things)), each)
    places = rng.uniform((0, 0, 20, 20), (*SOURCE, 200, 200), (rows, 4))
    places[things_of >= 0] = things[things_of[things_of >= 0]]
    certain = rng.uniform(0.75, 0.95, len(things)) * (rng.random(len(things)) >= HIDDEN)
    scores = np.append(certain, BACKGROUND)[things_of] * rng.uniform(0.7, 1.0, rows)
    order = np.argsort(-scores)
    half = places[:, 2:] / 2
    corners = np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)
    corners += JITTER * np.tile(places[:, 2:], 2) * rng.normal(size=corners.shape)
    return corners[order], scores[order][None].astype(np.float32), things_of[order]


class BandEngine(StartedEngine):
    """A face entry that costs nothing: it tells faces by the brightness of their band."""

    spec = EntrySpec("made", "", 112, 112, {"embedding": (128,), "quality": ()})
    backend = precision = device = "made"
    depth = 1

    def start(self, batch: Pictures) -> Running:
        """Give unit embeddings (N, 128), one direction per band."""
        return _Bands(np.rint(batch[:, 56, 56, 1] / LEVELS).astype(int))

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class _Bands:
    numbers: Rows

    def outputs(self) -> Outputs:
        return {"embedding": embeddings()[self.numbers], "quality": np.ones(len(self.numbers), np.float32)}


def embeddings() -> Float:
    """Return (11, 128): of the face in each band."""
    return np.eye(FACES + 1, 128, dtype=np.float32)
