"""Batches through an engine, and its outputs into detections of each frame."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue
from time import sleep
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engines.boxes import letterbox
from engines.errors import EngineError
from engines.planes import Planes
from engines.spec import EntrySpec, ModelSpec, NetworkSettings, SceneGroup, Thresholds
from pipeline.frames.picture import Picture
from pipeline.frames.types import Batch, Frame, Inferred, Prepared, Timestamps
from pipeline.inference.stage import Started, collect, detect, open_planes, room_between, start, start_planes
from pipeline.runtime.link import QueueLink
from pipeline.runtime.supervision import MAX_CRASHES, supervise
from tests.pipeline.made_frames import make_frame, names

HEIGHT, WIDTH = 32, 64
PATIENCE_S = 30.0  # no test waits this long unless it fails
REFUSED, FAILS = 255, 254  # levels of pictures that the engine does not start, and that it fails with
Outputs = dict[str, npt.NDArray[np.generic]]


class ThreadedEngine:
    """Tells of what brightness each picture is, after ``wait(level)``; batches run beside each other.

    Attributes:
        most: how many were under way at once.
    """

    spec = EntrySpec("frame.onnx", "", HEIGHT, WIDTH, {})
    backend = precision = device = "made"

    def __init__(self, depth: int = 1, wait: Callable[[int], object] = lambda level: None) -> None:
        self.depth = depth
        self.most = 0
        self._wait = wait
        self._under_way = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(32)

    def start(self, batch: npt.NDArray[np.uint8]) -> "ThreadedRun":
        if batch.max() == REFUSED:
            raise EngineError("too bright to start")
        self._count(1)
        return ThreadedRun(self._pool.submit(self._run, batch), self._count)

    def infer(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        return self.start(batch).outputs()

    def _run(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        self._wait(int(batch.max()))
        if batch.max() == FAILS:
            raise EngineError("too bright")
        return {"brightness": batch.mean(axis=(1, 2, 3))}

    def _count(self, more: int) -> None:
        with self._lock:
            self._under_way += more
            self.most = max(self.most, self._under_way)

    def close(self) -> None:
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ThreadedRun:
    """A batch under way in a thread."""

    def __init__(self, run: Future[Outputs], count: Callable[[int], None]) -> None:
        self._run, self._count = run, count

    def outputs(self) -> Outputs:
        try:
            return self._run.result(PATIENCE_S)
        finally:
            self._count(-1)


class Driven:
    """What came of driving batches through an engine."""

    def __init__(self) -> None:
        self.done: list[Inferred] = []
        self.dropped: list[tuple[str, str]] = []  # frame, cause

    def drop(self, frame: Frame, cause: str) -> None:
        self.dropped.append((*names([frame]), cause))

    def drive(
        self,
        engine: ThreadedEngine,
        batches: Iterable[Prepared],
        outlet: Callable[[Inferred], None] | None = None,
    ) -> Self:
        started = QueueLink[Started](room_between(engine))

        def start_all() -> None:
            supervise("infer", lambda items: start(items, engine), lambda: batches, started.put, self.drop)
            started.finish()

        with capture_logs(), ThreadPoolExecutor(1) as pool:  # to write out a traceback takes longer than all the rest
            starting = pool.submit(start_all)
            supervise("infer", collect, started.__iter__, outlet or self.done.append, self.drop)
            starting.result(PATIENCE_S)
        return self

    @property
    def published(self) -> list[str]:
        return [name for item in self.done for name in names(item.frames)]


@contextmanager
def driving(engine: ThreadedEngine, outlet: Callable[[Inferred], None]) -> Iterator[QueueLink[Prepared]]:
    """Drive an engine in a thread by what is put into the link, which is finished in the end."""
    inlet = QueueLink[Prepared](1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(Driven().drive, engine, inlet, outlet)
        yield inlet
        inlet.finish()
        running.result(PATIENCE_S)


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
    driven = Driven().drive(ThreadedEngine(), batches)
    assert [item.prepared for item in driven.done] == batches
    assert [item.outputs["brightness"].tolist() for item in driven.done] == [[10, 20], [30]]
    assert driven.published == ["a0", "a1", "b0"]
    assert driven.dropped == []


def test_pictures_go_to_an_engine_that_letterboxes_them_with_their_places() -> None:
    class Letterboxes(ThreadedEngine):
        def start_planes(self, pictures: Sequence[Planes]) -> "ThreadedRun":
            assert all(picture.letterbox.target == (WIDTH, HEIGHT) for picture in pictures)
            return self.start(np.stack([picture.planes[0] for picture in pictures]))

    pixels = [np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in (10, 20, 30)]
    frames = tuple(make_frame("a", at, Picture.from_rgb(each)) for at, each in enumerate(pixels))
    box = letterbox((WIDTH, HEIGHT), (WIDTH, HEIGHT))
    nothing = np.empty((0, HEIGHT, WIDTH, 3), np.uint8)
    batches = [
        Prepared(Batch(frames, 0, skipped=frozenset([1])), nothing, (box, box), 0),
        Prepared(Batch(frames[:1], 0, skipped=frozenset([0])), nothing, (), 0),
    ]
    with Letterboxes() as engine:
        first, second = collect(start_planes(batches, open_planes(engine)))
    assert first.outputs["brightness"].tolist() == [10, 30]
    assert second.outputs == {}


def test_the_time_in_the_engine_is_noted() -> None:
    engine = ThreadedEngine(wait=lambda level: sleep(0.02))
    (item,) = Driven().drive(engine, [prepared("a", 10)]).done
    assert item.ended_ns - item.started_ns >= 20_000_000


class Case(NamedTuple):
    """A batch, and what the engine does with it."""

    frames: int
    outcome: int  # REFUSED, FAILS or a level that is fine
    ms: int


cases = st.builds(
    Case, frames=st.integers(1, 3), outcome=st.sampled_from([10, 10, 10, FAILS, REFUSED]), ms=st.integers(0, 3)
)


def few_crashes(batches: list[Case]) -> bool:
    """Whether neither stage gives up."""
    return all(sum(case.outcome == level for case in batches) <= MAX_CRASHES for level in (FAILS, REFUSED))


@given(st.lists(cases, max_size=20).filter(few_crashes), st.integers(1, 5))
def test_however_long_each_batch_takes_and_whichever_fail_order_is_kept_and_nothing_is_lost(
    batches: list[Case], depth: int
) -> None:
    made = [prepared(f"s{index}-", *[case.outcome] * case.frames) for index, case in enumerate(batches)]
    times = iter([case.ms / 1000 for case in batches])
    with ThreadedEngine(depth, lambda level: sleep(next(times))) as engine:
        driven = Driven().drive(engine, made)
    fine = [item for item, case in zip(made, batches, strict=True) if case.outcome == 10]
    crashed = [item for item, case in zip(made, batches, strict=True) if case.outcome != 10]
    assert [item.prepared for item in driven.done] == fine
    assert sorted(driven.dropped) == sorted((name, "crash") for item in crashed for name in names(item.frames))
    assert engine.most <= max(3, depth)


@pytest.mark.parametrize("depth", [2, 4])
def test_as_many_batches_run_at_once_as_the_engine_has_use_for(depth: int) -> None:
    together = threading.Barrier(depth)  # passed only by so many at once
    with ThreadedEngine(depth, lambda level: together.wait(PATIENCE_S)) as engine:
        driven = Driven().drive(engine, [prepared("a", 10) for _ in range(2 * depth)])
    assert len(driven.done) == 2 * depth


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_batch_that_is_done_is_handed_on_though_no_other_comes(depth: int) -> None:
    outlet = Queue[Inferred]()
    with ThreadedEngine(depth) as engine, driving(engine, outlet.put) as inlet:
        for level in (10, 20, 30):
            inlet.put(prepared("a", level))
            assert outlet.get(timeout=PATIENCE_S).outputs["brightness"].tolist() == [level]


def test_a_batch_starts_while_another_runs_that_came_long_before() -> None:
    outlet, second = Queue[Inferred](), threading.Event()
    actions = {10: lambda: second.wait(PATIENCE_S), 20: second.set}
    with ThreadedEngine(2, lambda level: actions[level]()) as engine, driving(engine, outlet.put) as inlet:
        inlet.put(prepared("a", 10))
        sleep(0.02)  # the first is being waited for by now
        inlet.put(prepared("a", 20))
        assert [outlet.get(timeout=PATIENCE_S).outputs["brightness"][0] for _ in range(2)] == [10, 20]


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
    ((first, second),) = detect([inferred], lambda: Thresholds(object_score=0.35, face_score=0.5))
    assert (first.frame, second.frame) == batch.frames
    # The pictures are twice as large as the network's input.
    assert first.detections.objects.boxes.tolist() == [[20, 20, 40, 60], [80, 0, 100, 40]]
    assert first.detections.objects.labels.tolist() == [1, 0]
    assert second.detections.objects.boxes.tolist() == [[60, 16, 120, 48]]
    assert second.detections.objects.labels.tolist() == [0]
    assert second.detections.scene.tolist() == [1, 0]
    assert first.detections.faces.landmarks[0, 0].tolist() == [10, 10]
    assert (
        first.timestamps
        == second.timestamps
        == Timestamps(taken_ns=1, ready_ns=2, infer_started_ns=3, infer_ended_ns=4)
    )


@pytest.mark.parametrize(("face_score", "faces"), [(0.5, 1), (0.7, 0)])
def test_scores_below_their_thresholds_are_not_seen(face_score: float, faces: int) -> None:
    boxes = [[(10, 10, 20, 30), (40, 0, 50, 20)]]
    inferred = Inferred(prepared("a", 1), outputs(boxes, [[0.9, 0.4]]), 3, 4)
    ((observed,),) = detect([inferred], lambda: Thresholds(object_score=0.5, face_score=face_score))
    assert len(observed.detections.objects.boxes) == 1
    assert len(observed.detections.faces.boxes) == faces


def test_no_batches_no_frames() -> None:
    assert Driven().drive(ThreadedEngine(), []).done == []
    assert list(detect([], Thresholds)) == []


def test_scenes_are_told_as_their_groups() -> None:
    boxes = [[(10, 10, 20, 30), (40, 0, 50, 20)], [(0, 0, 64, 32), (30, 8, 60, 24)]]
    given = {**outputs(boxes, [[0.9, 0.8], [0.1, 0.7]]), "scene": np.float32([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])}
    groups = (SceneGroup("yard", "outdoors", ("yard",)), SceneGroup("restaurant", "indoors", ("bar", "coffee_shop")))
    spec = ModelSpec(
        format=1, name="made", frame=EntrySpec("frame.onnx", "", HEIGHT, WIDTH, {}), face=None, objects=("a", "b"),
        scenes=("bar", "yard", "coffee_shop"), network=NetworkSettings(), scene_groups=groups,
    )  # fmt: skip
    (found,) = detect([Inferred(prepared("a", 1, 2), given, 3, 4)], Thresholds, spec=spec)
    np.testing.assert_allclose([each.detections.scene for each in found], [[0.3, 0.7], [1.0, 0.0]], atol=1e-6)
