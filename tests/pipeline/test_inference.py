"""Batches through an engine, and its outputs into detections of each frame."""

from typing import Self

import numpy as np
import numpy.typing as npt
import pytest

from engines.boxes import letterbox
from engines.errors import EngineError
from engines.spec import EntrySpec, Thresholds
from pipeline.inference import detect, infer
from pipeline.picture import Picture
from pipeline.types import Batch, Inferred, Prepared, Stamps
from tests.pipeline.made_frames import make_frame, names

HEIGHT, WIDTH = 32, 64
Outputs = dict[str, npt.NDArray[np.generic]]


class CountingEngine:
    """Tells how many pictures it saw, and of what brightness."""

    spec = EntrySpec("frame.onnx", "", HEIGHT, WIDTH, {})
    backend = precision = device = "made"

    def infer(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        if batch.max() == 255:
            raise EngineError("too bright")
        return {"brightness": batch.mean(axis=(1, 2, 3))}

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


def prepared(stream: str, *levels: int, size: tuple[int, int] = (2 * WIDTH, 2 * HEIGHT)) -> Prepared:
    """A batch of frames of ``size``, whose pixels have these levels."""
    width, height = size
    picture = Picture.from_rgb(np.zeros((height, width, 3), np.uint8))
    frames = tuple(make_frame(stream, seq, picture) for seq in range(len(levels)))
    pixels = np.repeat(np.array(levels, np.uint8), HEIGHT * WIDTH * 3).reshape(-1, HEIGHT, WIDTH, 3)
    boxes = tuple(letterbox(size, (WIDTH, HEIGHT)) for _ in levels)
    return Prepared(Batch(frames, taken_ns=1), pixels, boxes, ready_ns=2)


def test_each_batch_runs_once_and_keeps_its_frames() -> None:
    batches = [prepared("a", 10, 20), prepared("b", 30)]
    done = list(infer(iter(batches), CountingEngine()))
    assert [item.prepared for item in done] == batches
    assert [item.outputs["brightness"].tolist() for item in done] == [[10, 20], [30]]
    assert [names(item.frames) for item in done] == [["a0", "a1"], ["b0"]]


def test_the_time_in_the_engine_is_noted() -> None:
    first, second = infer([prepared("a", 10)] * 2, CountingEngine())
    assert 0 < first.started_ns <= first.ended_ns <= second.started_ns


def test_batches_are_taken_one_by_one() -> None:
    taken = []

    def batches():
        for level in (10, 20):
            taken.append(level)
            yield prepared("a", level)

    stage = infer(batches(), CountingEngine())
    next(stage)
    assert taken == [10]


def test_an_engine_that_fails_is_not_hidden() -> None:
    with pytest.raises(EngineError, match="too bright"):
        list(infer([prepared("a", 255)], CountingEngine()))


def outputs(objects: list[list[tuple[float, ...]]], scores: list[list[float]]) -> Outputs:
    """Two rows of objects per picture, one face at its left edge, and a scene for each."""
    count = len(objects)
    return {
        "object_boxes": np.array(objects, np.float32),
        "object_scores": np.array(scores, np.float32),
        "object_labels": np.tile(np.array([1, 0]), (count, 1)),
        "face_boxes": np.tile(np.float32([[0, 0, 10, 10]]), (count, 1, 1)),
        "face_scores": np.full((count, 1), 0.6, np.float32),
        "face_landmarks": np.full((count, 1, 5, 2), 5.0, np.float32),
        "scene": np.array([[row, 1 - row] for row in range(count)], np.float32),
    }


def test_each_frame_gets_its_own_row_in_its_own_pixels() -> None:
    boxes = [[(10, 10, 20, 30), (40, 0, 50, 20)], [(0, 0, 64, 32), (30, 8, 60, 24)]]
    batch = prepared("a", 1, 2)
    inferred = Inferred(batch, outputs(boxes, [[0.9, 0.8], [0.1, 0.7]]), 3, 4)
    first, second = detect([inferred], Thresholds(object_score=0.35, face_score=0.5))
    assert (first.frame, second.frame) == batch.frames
    # The pictures are twice as large as the network's input.
    assert first.detections.objects.boxes.tolist() == [[20, 20, 40, 60], [80, 0, 100, 40]]
    assert first.detections.objects.labels.tolist() == [1, 0]
    assert second.detections.objects.boxes.tolist() == [[60, 16, 120, 48]]
    assert second.detections.objects.labels.tolist() == [0]
    assert second.detections.scene.tolist() == [1, 0]
    assert first.detections.faces.landmarks[0, 0].tolist() == [10, 10]
    assert first.stamps == second.stamps == Stamps(taken_ns=1, ready_ns=2, infer_started_ns=3, infer_ended_ns=4)


@pytest.mark.parametrize(("face_score", "faces"), [(0.5, 1), (0.7, 0)])
def test_scores_below_their_thresholds_are_not_seen(face_score: float, faces: int) -> None:
    boxes = [[(10, 10, 20, 30), (40, 0, 50, 20)]]
    inferred = Inferred(prepared("a", 1), outputs(boxes, [[0.9, 0.4]]), 3, 4)
    (observed,) = detect([inferred], Thresholds(object_score=0.5, face_score=face_score))
    assert len(observed.detections.objects.boxes) == 1
    assert len(observed.detections.faces.boxes) == faces


def test_no_batches_no_frames() -> None:
    assert list(infer([], CountingEngine())) == []
    assert list(detect([], Thresholds())) == []
