"""Raw outputs of the frame entry for made scenes: so many objects and faces that move, hide and are mislabelled."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from engines.arrays import Double
from engines.boxes import letterbox
from engines.engine import Running
from engines.spec import EntrySpec
from pipeline.frames.picture import Picture
from pipeline.frames.types import Batch, Frame, Inferred, Prepared

PERSON: Final = 0  # label
LABELS: Final = ("person", *(f"thing {number}" for number in range(1, 23)))
SCENES: Final = tuple(f"scene {number}" for number in range(11))
OBJECT_ROWS: Final = 300  # the frame entry's top-k
FACE_ROWS: Final = 100
SOURCE: Final = (1920, 1080)  # width, height in pixels
INPUT: Final = (640, 384)
CYCLE: Final = 256  # frames until everything is where it began
FRAMES_PER_S: Final = 25
SEED: Final = 20

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

Outputs = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Crowd:
    """A scene that repeats itself for ever."""

    outputs: tuple[Outputs, ...]  # of each frame of the cycle
    picture: Picture

    def batches(self, stream: str) -> Iterator[Inferred]:
        """The frames of one stream as they come from the engine, one a batch."""
        box, pixels = letterbox(SOURCE, INPUT), np.zeros((1, INPUT[1], INPUT[0], 3), np.uint8)
        for seq in count():
            now = time.monotonic_ns()
            frame = Frame(stream, seq, time.time_ns(), now, seq / FRAMES_PER_S, self.picture)
            prepared = Prepared(Batch((frame,), now), pixels, (box,), now)
            yield Inferred(prepared, self.outputs[seq % CYCLE], now, now)


def make_crowd(objects: int, faces: int) -> Crowd:
    """A scene with so many objects, at least half of them people, and at the most 10 faces, each of a person.

    Seeded: the same at every call.
    """
    rng = np.random.default_rng(SEED)
    rows = np.arange(objects)
    labels = np.where(rows < max(faces, objects // 2), PERSON, 1 + rows % (len(LABELS) - 1))
    bodies = _paths(rng, objects)
    heads = bodies[:, :faces].copy()
    heads[..., 1] = (np.arange(faces) + 0.5) * BAND
    heads[..., 2:] = FACE_SIDE
    bodies[:, :faces, 1] = heads[..., 1] + 0.35 * bodies[:, :faces, 3]
    scene = np.full((1, len(SCENES)), 0.03, np.float32)
    scene[0, 0] = 1.0 - scene[0, 1:].sum()
    outputs = tuple(
        {**_object_rows(rng, bodies[index], labels), **_face_rows(rng, heads[index]), "scene": scene}
        for index in range(CYCLE)
    )
    luma = (np.arange(SOURCE[1]) // BAND * LEVELS).astype(np.uint8)[:, None].repeat(SOURCE[0], axis=1)
    chroma = np.full((SOURCE[1] // 2, SOURCE[0] // 2), 128, np.uint8)
    return Crowd(outputs, Picture((luma, chroma, chroma), *SOURCE, full_range=True))


class BandEngine:
    """A face entry that costs nothing: it tells faces by the brightness of their band."""

    spec = EntrySpec("made", "", 112, 112, {"embedding": (128,), "quality": ()})
    backend = precision = device = "made"
    depth = 1

    def start(self, batch: npt.NDArray[np.uint8]) -> Running:
        """A batch that is done as soon as it is begun."""
        return _Done(self.infer(batch))

    def infer(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """Unit embeddings (N, 128), one direction per band."""
        bands = np.rint(batch[:, 56, 56, 1] / LEVELS).astype(int)
        return {"embedding": embeddings()[bands], "quality": np.ones(len(batch), np.float32)}

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True, slots=True)
class _Done:
    found: Outputs

    def outputs(self) -> Outputs:
        return self.found


def embeddings() -> npt.NDArray[np.float32]:
    """(11, 128): of the face in each band."""
    return np.eye(FACES + 1, 128, dtype=np.float32)


def _paths(rng: np.random.Generator, things: int) -> Double:
    """(CYCLE, things, 4): centre x, y, width and height, source pixels; everything swings about its own place."""
    turns = 2 * np.pi * np.arange(CYCLE)[:, None, None] / CYCLE
    places = rng.uniform((200, 150), (SOURCE[0] - 200, SOURCE[1] - 150), (things, 2))
    swings = rng.uniform(20, 150, (things, 2)) * np.sin(turns + rng.uniform(0, 2 * np.pi, (things, 2)))
    sides = np.broadcast_to(rng.uniform((50, 80), (160, 320), (things, 2)), swings.shape)
    return np.concatenate([places + swings, sides], axis=-1)


def _object_rows(rng: np.random.Generator, things: Double, labels: npt.NDArray[np.int64]) -> Outputs:
    boxes, scores, things_of = _seen(rng, things, OBJECT_ROWS)
    wrong = rng.random(len(things)) < MISLABELLED
    told = np.append(np.where(wrong, rng.integers(len(LABELS), size=len(things)), labels), 0)
    return {
        "object_boxes": _to_input(boxes),
        "object_scores": scores,
        "object_labels": told[things_of][None].astype(np.int32),
    }


def _face_rows(rng: np.random.Generator, faces: Double) -> Outputs:
    boxes, scores, _ = _seen(rng, faces, FACE_ROWS)
    points = boxes[:, None, :2] + POINTS * (boxes[:, None, 2:] - boxes[:, None, :2])
    return {"face_boxes": _to_input(boxes), "face_scores": scores, "face_landmarks": _to_input(points)}


def _seen(
    rng: np.random.Generator, things: Double, rows: int
) -> tuple[Double, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Boxes (rows, 4), scores (1, rows), best first, and which thing each row sees, -1 for none."""
    each = min(ROWS_EACH, rows // max(len(things), 1))
    things_of = np.full(rows, -1)
    things_of[: each * len(things)] = np.repeat(np.arange(len(things)), each)
    places = np.concatenate([things, rng.uniform((0, 0, 20, 20), (*SOURCE, 200, 200), (1, 4))])[things_of]
    places = np.where((things_of < 0)[:, None], rng.uniform((0, 0, 20, 20), (*SOURCE, 200, 200), (rows, 4)), places)
    certain = rng.uniform(0.75, 0.95, len(things)) * (rng.random(len(things)) >= HIDDEN)
    scores = np.append(certain, BACKGROUND)[things_of] * rng.uniform(0.7, 1.0, rows)
    order = np.argsort(-scores)
    half = places[:, 2:] / 2
    corners = np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)
    corners += JITTER * np.tile(places[:, 2:], 2) * rng.normal(size=corners.shape)
    return corners[order], scores[order][None].astype(np.float32), things_of[order]


def _to_input(points: Double) -> npt.NDArray[np.float32]:
    return letterbox(SOURCE, INPUT).to_input(points.astype(np.float32))[None]
