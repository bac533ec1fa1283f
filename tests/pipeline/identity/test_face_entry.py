"""The face entry in a thread of its own: what waits is bounded and goes through together; live frames do not wait."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.frames.types import Identified, Tracked
from pipeline.gallery.gallery import Gallery
from pipeline.identity.face_entry import MAX_CROPS, ROOM, Crops, FaceQueue, FaceRequest
from pipeline.identity.stage import Identifier
from tests.pipeline.identity.test_stage import LEFT, MODEL, RED, SETTINGS, THRESHOLD, ColourEngine, colour, frames
from tests.pipeline.made_runs import PATIENCE_S

SIZE: Final = 112


class Counting(ColourEngine):
    """Remembers how many faces came at once, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.fails = False

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        if self.fails:
            raise ZeroDivisionError("made to fail")
        self.sizes.append(len(batch))
        return super().infer(batch)


def crops(*values: int) -> Crops:
    """Faces of one colour each, given by how red it is."""
    return np.stack([np.full((SIZE, SIZE, 3), (value, 250 - value, 0), np.uint8) for value in values])


def ask(entry: FaceQueue, *values: int) -> FaceRequest:
    request = entry.ask(crops(*values), wait=False)
    assert request is not None
    return request


@pytest.fixture
def engine() -> Counting:
    return Counting()


@pytest.fixture
def entry(engine: Counting) -> FaceQueue:
    return FaceQueue(engine)  # type: ignore[arg-type]


def run_once(entry: FaceQueue) -> None:
    """Embed what waits."""
    next(entry.embed(entry.batches()))


def test_what_waits_goes_through_together_and_each_gets_its_own(entry: FaceQueue, engine: Counting) -> None:
    requests = [ask(entry, 250), ask(entry, 0, 250), ask(entry, 0)]
    run_once(entry)
    assert engine.sizes == [4]
    reds = []
    for request in requests:
        outputs = request.outputs()
        assert outputs is not None
        reds.append((outputs["embedding"][:, 0] > 0.9).tolist())
    assert reds == [[True], [False, True], [False]]
    assert entry.counts.tolist() == [1, 4]


def test_no_run_has_more_than_so_many_faces(entry: FaceQueue, engine: Counting) -> None:
    for _ in range(3):
        ask(entry, *[0] * (MAX_CROPS - 4))
    ask(entry, 0, 0)
    for _ in range(3):
        run_once(entry)
    assert engine.sizes == [MAX_CROPS - 4, MAX_CROPS - 4, MAX_CROPS - 2]


def test_what_may_wait_is_bounded_and_a_live_stream_does_not_wait_for_room(entry: FaceQueue) -> None:
    for _ in range(ROOM // MAX_CROPS):
        ask(entry, *[0] * MAX_CROPS)
    assert entry.ask(crops(0), wait=False) is None
    asking = threading.Thread(target=entry.ask, args=(crops(0), True))
    asking.start()
    asking.join(0.05)
    assert asking.is_alive()
    run_once(entry)
    asking.join(PATIENCE_S)
    assert not asking.is_alive()


def test_a_run_that_fails_leaves_nobody_waiting(entry: FaceQueue, engine: Counting) -> None:
    engine.fails = True
    requests = [ask(entry, 0), ask(entry, 250)]
    with pytest.raises(ZeroDivisionError):
        run_once(entry)
    assert [request.outputs() for request in requests] == [None, None]


def test_when_it_is_closed_nobody_waits(entry: FaceQueue) -> None:
    waits = ask(entry, 0)
    entry.close()
    assert waits.outputs() is None
    assert ask(entry, 0).outputs() is None
    assert list(entry.batches()) == []


# What becomes of frames meanwhile.


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery(tmp_path / "people.sqlite", MODEL) as gallery:
        gallery.enroll("Ada", colour(*RED), ["made"])
        yield gallery


def name(item: Identified) -> Any:
    return item.identities[0] and item.identities[0].name


def red(count: int) -> list[Tracked]:
    return frames(0, count, t1=(LEFT, RED))


def test_a_live_frame_does_not_wait_and_a_later_one_has_the_answer(entry: FaceQueue, gallery: Gallery) -> None:
    identifier = Identifier(entry, gallery, SETTINGS, THRESHOLD, live=lambda stream: True)
    items = red(60)
    assert [name(identifier.update(item)) for item in items[:20]] == [None] * 20  # would wait for ever if it waited
    assert identifier.crops == 0 and sum(len(each.crops) for each in entry._waiting) == 1, "asked once, not each frame"
    found = []
    for item in items[20:]:
        if entry._waiting:
            run_once(entry)
        found.append(name(identifier.update(item)))
    assert "Ada" in found and set(found[found.index("Ada") :]) == {"Ada"}


def test_a_file_waits_so_that_each_pass_gives_the_same(engine: Counting, gallery: Gallery) -> None:
    passes = []
    for _ in range(3):
        entry = FaceQueue(engine)  # type: ignore[arg-type]
        thread = threading.Thread(target=lambda entry=entry: list(entry.embed(entry.batches())))
        thread.start()
        identifier = Identifier(entry, gallery, SETTINGS, THRESHOLD)
        passes.append([item.identities for item in map(identifier.update, red(30))])
        entry.close()
        thread.join(PATIENCE_S)
    assert passes[0] == passes[1] == passes[2]
    assert passes[0][-1][0] is not None and passes[0][-1][0].name == "Ada"


def test_a_face_whose_answer_is_lost_is_asked_for_again(entry: FaceQueue, engine: Counting, gallery: Gallery) -> None:
    identifier = Identifier(entry, gallery, SETTINGS, THRESHOLD, live=lambda stream: True)
    items = red(60)
    identifier.update(items[0])
    engine.fails = True
    with pytest.raises(ZeroDivisionError):
        run_once(entry)
    engine.fails = False
    for item in items[1:]:
        if entry._waiting:
            run_once(entry)
        last = identifier.update(item)
    assert name(last) == "Ada"


def test_an_answer_for_a_track_that_has_ended_is_nobodys(entry: FaceQueue, gallery: Gallery) -> None:
    identifier = Identifier(entry, gallery, SETTINGS, THRESHOLD, live=lambda stream: True)
    identifier.update(red(1)[0])
    run_once(entry)
    (gone,) = frames(1, 1, ended=(1,), t2=(LEFT, RED))
    identifier.update(gone)
    assert identifier.crops == 0
