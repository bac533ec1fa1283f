import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pytest

from engines.errors import GalleryError
from engines.spec import EntrySpec
from pipeline.frames.types import Identified, Tracked
from pipeline.gallery.gallery import Gallery, Snapshot
from pipeline.gallery.search import Index
from pipeline.identity.face_entry import DirectFaces
from pipeline.identity.stage import EARLY_S, KNOWN_S, MAX_CROPS, Identifier, frontality, identify, rankings, view_scores
from pipeline.settings.schema import IdentitySettings
from tests.pipeline.made_tracks import POINTS, Box, boxes_array, make_tracked, one_by_one

MODEL = "0123456789abcdef"
SETTINGS = IdentitySettings(min_views=3, min_face_px=24, reload_s=0.25)
THRESHOLD = 0.5
LEFT: Box = (100, 100, 180, 200)
RIGHT: Box = (400, 100, 480, 200)
RATE = 25


class ColourEngine:
    """A face entry that tells people by the colour of their faces: red, green and blue are orthogonal."""

    spec = EntrySpec("face.onnx", "", 112, 112, {"embedding": (128,), "quality": ()})
    backend = precision = device = "made"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.quality = 0.8

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        assert batch.shape[1:] == (112, 112, 3)
        self.batches.append(len(batch))
        means = batch[:, 40:80, 40:80].mean(axis=(1, 2))
        embedding = np.zeros((len(batch), 128), np.float32)
        embedding[:, :3] = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1.0)
        return {"embedding": embedding, "quality": np.full(len(batch), self.quality, np.float32)}

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def colour(*rgb: float) -> np.ndarray:
    vector = np.zeros((1, 128), np.float32)
    vector[0, :3] = np.array(rgb) / np.linalg.norm(rgb)
    return vector


def scene(**faces: tuple[Box, tuple[int, int, int]]) -> tuple[dict[int, Box], np.ndarray]:
    """Faces ``t1=(box, colour)``, ... -> track id -> box, and the picture."""
    pixels = np.full((360, 640, 3), 90, np.uint8)
    for (x0, y0, x1, y1), rgb in faces.values():
        pixels[int(y0) - 60 : int(y1) + 60, int(x0) - 60 : int(x1) + 60] = rgb
    return {int(name[1:]): box for name, (box, _) in faces.items()}, pixels


def frames(
    start: int, count: int, ended: tuple[int, ...] = (), **faces: tuple[Box, tuple[int, int, int]]
) -> list[Tracked]:
    boxes, pixels = scene(**faces)
    return [
        make_tracked(index / RATE, faces=boxes, pixels=pixels, faces_ended=ended if index == start else ())
        for index in range(start, start + count)
    ]


RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "people.sqlite", MODEL)


@pytest.fixture
def known(gallery: Gallery) -> Gallery:
    """The gallery, once Ada is in it, whose face is red."""
    gallery.enroll("Ada", colour(1, 0, 0), ["a.jpg"])
    return gallery


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine() -> ColourEngine:
    return ColourEngine()


@pytest.fixture
def identifier(engine: ColourEngine, gallery: Gallery, clock: Clock) -> Identifier:
    return Identifier(DirectFaces(engine), gallery, SETTINGS, THRESHOLD, clock)


def names(items: list[Identified]) -> list[list[str | None]]:
    return [[identity and identity.name for identity in item.identities] for item in items]


def run(identifier: Identifier, items: list[Tracked]) -> list[list[str | None]]:
    return names([identifier.update(item) for item in items])


def test_a_face_is_named_after_min_views_and_within_a_second(identifier: Identifier, known: Gallery) -> None:
    shown = run(identifier, frames(0, 25, t1=(LEFT, RED)))
    first = shown.index(["Ada"])
    assert identifier.crops == 3
    assert 0.2 <= first / RATE <= 0.4
    assert all(row == ["Ada"] for row in shown[first:])


def test_an_unknown_face_stays_unknown_and_is_looked_at_every_half_second(
    identifier: Identifier, known: Gallery
) -> None:
    shown = run(identifier, frames(0, 100, t1=(LEFT, BLUE)))
    assert all(row == [None] for row in shown)
    assert 3 + 3.7 / 0.6 <= identifier.runs <= 3 + 3.7 / 0.5


def test_a_named_face_is_embedded_again_every_two_seconds(identifier: Identifier, known: Gallery) -> None:
    runs, embedded_at = 0, []
    for index, item in enumerate(frames(0, 250, t1=(LEFT, RED))):
        identifier.update(item)
        if identifier.runs > runs:
            runs = identifier.runs
            embedded_at.append(index / RATE)
    waits = np.diff(embedded_at)
    assert waits[:2] == pytest.approx([EARLY_S, EARLY_S], abs=1 / RATE)
    assert waits[2:] == pytest.approx([KNOWN_S] * 4, abs=1 / RATE)


def test_a_clearly_better_view_is_embedded(identifier: Identifier, known: Gallery) -> None:
    run(identifier, frames(0, 25, t1=((100, 100, 140, 150), RED)))
    run(identifier, frames(25, 25, t1=((100, 100, 144, 155), RED)))  # a little larger
    assert identifier.runs == 3
    run(identifier, frames(50, 25, t1=(LEFT, RED)))  # twice as large
    assert identifier.runs == 4


def test_faces_of_one_frame_go_through_the_engine_together(
    identifier: Identifier, engine: ColourEngine, known: Gallery
) -> None:
    known.enroll("Grace", colour(0, 1, 0), ["g.jpg"])
    shown = run(identifier, frames(0, 20, t1=(LEFT, RED), t2=(RIGHT, GREEN)))
    assert engine.batches == [2, 2, 2]
    assert shown[-1] == ["Ada", "Grace"]


def test_a_crowd_is_embedded_in_several_frames(engine: ColourEngine, identifier: Identifier) -> None:
    crowd = {index: (10.0 * index, 10.0, 10.0 * index + 60, 80.0) for index in range(1, MAX_CROPS + 5)}
    identifier.update(make_tracked(0.0, faces=crowd))
    identifier.update(make_tracked(0.04, faces=crowd))
    assert engine.batches == [MAX_CROPS, 4]


def test_small_faces_are_not_embedded(identifier: Identifier) -> None:
    run(identifier, frames(0, 20, t1=((100, 100, 118, 123), RED)))
    assert identifier.runs == 0
    run(identifier, frames(20, 1, t1=((100, 100, 119, 124), RED)))
    assert identifier.runs == 1


def test_a_face_over_the_edge_of_the_picture_is_embedded(identifier: Identifier) -> None:
    shown = run(identifier, frames(0, 3, t1=((70, 65, 140, 150), RED), t2=((560, 80, 640, 180), RED)))
    assert identifier.crops == 2
    assert shown[-1] == [None, None]


def test_landmarks_that_fit_no_face_are_passed_over(identifier: Identifier) -> None:
    (item,) = frames(0, 1, t1=(LEFT, RED))
    item.detections.faces.landmarks[:] = 100.0
    assert names([identifier.update(item)]) == [[None]]
    assert identifier.runs == 0


def test_someone_enrolled_live_is_named_without_a_new_view(
    identifier: Identifier, gallery: Gallery, clock: Clock, tmp_path: Path
) -> None:
    assert run(identifier, frames(0, 13, t1=(LEFT, RED)))[-1] == [None]
    runs = identifier.runs
    with Gallery(tmp_path / "people.sqlite", MODEL) as elsewhere:
        elsewhere.enroll("Ada", colour(1, 0, 0), ["a.jpg"])
    assert run(identifier, frames(13, 1, t1=(LEFT, RED))) == [[None]]
    clock.now += SETTINGS.reload_s
    assert run(identifier, frames(14, 1, t1=(LEFT, RED))) == [["Ada"]]
    assert identifier.runs == runs


def test_someone_removed_live_loses_the_name(identifier: Identifier, known: Gallery, clock: Clock) -> None:
    assert run(identifier, frames(0, 20, t1=(LEFT, RED)))[-1] == ["Ada"]
    known.remove("Ada")
    clock.now += SETTINGS.reload_s
    assert run(identifier, frames(20, 1, t1=(LEFT, RED))) == [[None]]


def test_a_name_is_taken_back_when_later_views_speak_against_it(identifier: Identifier, known: Gallery) -> None:
    small: Box = (100, 100, 130, 140)
    assert run(identifier, frames(0, 20, t1=(small, RED)))[-1] == ["Ada"]
    # The tracker has gone over to someone else, whose face is nearer with every second.
    sizes = [52, 68, 88, 114]
    later = [
        frames(20 + 25 * i, 25, t1=((100, 70, 100 + 0.75 * size, 70 + size), BLUE)) for i, size in enumerate(sizes)
    ]
    shown = [run(identifier, items)[-1] for items in later]
    assert shown[-1] == [None]


def test_a_track_that_goes_over_to_a_stranger_loses_the_name_within_a_look_and_two_views(
    identifier: Identifier, known: Gallery
) -> None:
    assert run(identifier, frames(0, 20, t1=(LEFT, RED)))[-1] == ["Ada"]
    shown = run(identifier, frames(20, 100, t1=(LEFT, BLUE)))
    assert shown[0] == ["Ada"]  # nothing was looked at yet
    assert shown.index([None]) / RATE <= KNOWN_S + 2 * EARLY_S
    assert shown[shown.index([None]) :] == [[None]] * (100 - shown.index([None]))


def test_a_track_that_goes_over_to_someone_known_gets_that_name(identifier: Identifier, known: Gallery) -> None:
    known.enroll("Grace", colour(0, 1, 0), ["g.jpg"])
    assert run(identifier, frames(0, 20, t1=(LEFT, RED)))[-1] == ["Ada"]
    shown = run(identifier, frames(20, 100, t1=(LEFT, GREEN)))
    assert shown.index(["Grace"]) / RATE <= KNOWN_S + 4 * EARLY_S
    assert [None] in shown  # for as long as there were too few views


def test_another_threshold_takes_names_back_and_gives_them_without_a_new_view(
    identifier: Identifier, gallery: Gallery
) -> None:
    gallery.enroll("Ada", colour(1, 0.5, 0), ["a.jpg"])
    assert run(identifier, frames(0, 12, t1=(LEFT, RED)))[-1] == ["Ada"]
    looks = identifier.crops
    identifier.tune(1.0)
    assert run(identifier, frames(12, 1, t1=(LEFT, RED))) == [[None]]
    identifier.tune(THRESHOLD)
    assert run(identifier, frames(13, 1, t1=(LEFT, RED))) == [["Ada"]] and identifier.crops == looks


def test_a_name_is_kept_while_a_face_is_hidden(identifier: Identifier, known: Gallery) -> None:
    run(identifier, frames(0, 20, t1=(LEFT, RED)))
    run(identifier, [make_tracked(index / RATE) for index in range(20, 60)])
    assert run(identifier, frames(60, 1, t1=(LEFT, RED))) == [["Ada"]]


def test_a_name_is_kept_through_views_that_show_less(identifier: Identifier, known: Gallery) -> None:
    run(identifier, frames(0, 20, t1=(LEFT, RED)))
    shown = run(identifier, frames(20, 250, t1=(LEFT, (200, 200, 0))))  # cosine 0.71 to the views before
    assert shown == [["Ada"]] * 250


def test_two_who_go_over_to_one_another_lose_their_names_and_find_them_again(
    identifier: Identifier, known: Gallery
) -> None:
    known.enroll("Grace", colour(0, 1, 0), ["g.jpg"])
    assert run(identifier, frames(0, 20, t1=(LEFT, RED), t2=(RIGHT, GREEN)))[-1] == ["Ada", "Grace"]
    shown = run(identifier, frames(20, 100, t1=(LEFT, GREEN), t2=(RIGHT, RED)))
    assert shown[-1] == ["Grace", "Ada"]
    assert not any(row in (["Ada", "Ada"], ["Grace", "Grace"]) for row in shown)


def test_all_faces_with_a_new_view_are_searched_at_once(
    identifier: Identifier, known: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    search = Index.search

    def counted(index: Index, embeddings: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        searched.append(len(embeddings))
        return search(index, embeddings, most)

    monkeypatch.setattr(Index, "search", counted)
    run(identifier, frames(0, 10, t1=(LEFT, RED), t2=(RIGHT, GREEN)))
    assert searched == [2, 2, 2]


def test_two_faces_never_bear_the_same_name(identifier: Identifier, known: Gallery) -> None:
    shown = run(identifier, frames(0, 20, t1=(LEFT, (250, 150, 0)), t2=(RIGHT, RED)))
    assert shown[-1] == [None, "Ada"]
    assert not any(row == ["Ada", "Ada"] for row in shown)


def test_an_ended_track_is_forgotten(identifier: Identifier, known: Gallery) -> None:
    run(identifier, frames(0, 20, t1=(LEFT, RED)))
    shown = run(identifier, frames(20, 20, ended=(1,), t1=(LEFT, BLUE)))
    assert all(row == [None] for row in shown)


def test_streams_do_not_share_tracks(identifier: Identifier, known: Gallery) -> None:
    run(identifier, frames(0, 20, t1=(LEFT, RED)))
    boxes, pixels = scene(t1=(LEFT, BLUE))
    other = identifier.update(make_tracked(0.8, faces=boxes, pixels=pixels, stream="yard"))
    assert names([other]) == [[None]]


def test_a_gallery_that_cannot_be_read_keeps_the_people_known_so_far(
    identifier: Identifier, known: Gallery, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(identifier, frames(0, 20, t1=(LEFT, RED)))
    known.enroll("Grace", colour(0, 1, 0), ["a.jpg"])

    def fail() -> Snapshot:
        raise GalleryError("gallery people.sqlite: cannot be used: disk I/O error")

    monkeypatch.setattr(known, "snapshot", fail)
    clock.now += SETTINGS.reload_s
    assert run(identifier, frames(20, 1, t1=(LEFT, RED))) == [["Ada"]]
    monkeypatch.undo()
    clock.now += SETTINGS.reload_s
    assert run(identifier, frames(21, 20, t1=(LEFT, RED), t2=(RIGHT, GREEN)))[-1] == ["Ada", "Grace"]


def people(**rows: list[list[float]]) -> Index:
    names_ = tuple(name for name, vectors in rows.items() for _ in vectors)
    return Index(Snapshot(names_, np.array([v for vectors in rows.values() for v in vectors], np.float32)))


def test_a_person_is_as_similar_as_the_most_similar_view() -> None:
    known = people(Ada=[[1, 0], [0, 1]], Bob=[[0.6, 0.8]])
    (found,) = rankings([np.float32([0.0, 1.0])], known)
    assert found is not None
    assert (found.first.name, found.first.score, found.second) == pytest.approx(("Ada", 1.0, 0.8))


def test_an_empty_gallery_ranks_nobody() -> None:
    assert rankings([np.ones(128, np.float32)], people()) == [None]


def test_one_person_alone_has_no_second() -> None:
    (found,) = rankings([np.float32([0.6, 0.8])], people(Ada=[[1, 0]]))
    assert found is not None
    assert found.second == -1.0


def test_view_scores_like_large_sure_frontal_faces() -> None:
    boxes = boxes_array([(0, 0, 80, 100)] * 4)
    landmarks = boxes[:, None, :2] + POINTS * (boxes[:, None, 2:] - boxes[:, None, :2])
    landmarks[3, 2, 0] += 15  # the nose near one eye: a head that is turned
    heights, scores = np.float32([100, 50, 100, 100]), np.float32([0.9, 0.9, 0.5, 0.9])
    best, smaller, unsure, turned = view_scores(heights, scores, frontality(landmarks))
    assert best > max(smaller, unsure, turned)


def test_the_frontality_of_eyes_on_one_spot_is_a_number() -> None:
    assert np.isfinite(frontality(np.zeros((1, 5, 2), np.float32))).all()


def test_without_an_identifier_everyone_is_unknown() -> None:
    items = frames(0, 10, t1=(LEFT, RED))
    found = one_by_one(identify, items, None)
    assert [item.frame for item in found] == [item.frame for item in items]
    assert names(found) == [[None]] * 10


def test_an_empty_gallery_names_nobody(identifier: Identifier) -> None:
    assert names(one_by_one(identify, frames(0, 10, t1=(LEFT, RED)), identifier)) == [[None]] * 10


def test_the_stage_names_faces(identifier: Identifier, known: Gallery) -> None:
    items = frames(0, 20, t1=(LEFT, RED))
    found = one_by_one(identify, items, identifier)
    assert [item.frame for item in found] == [item.frame for item in items]
    assert names(found)[-1] == ["Ada"]


def test_a_stage_that_begins_anew_still_knows_the_faces(identifier: Identifier, known: Gallery) -> None:
    one_by_one(identify, frames(0, 20, t1=(LEFT, RED)), identifier)
    assert names(one_by_one(identify, frames(20, 1, t1=(LEFT, RED)), identifier)) == [["Ada"]]
    assert identifier.runs == 3


def test_faces_are_cut_from_yuv_pictures_too(
    identifier: Identifier, known: Gallery, yuv_picture: Callable[..., object]
) -> None:
    boxes, pixels = scene(t1=(LEFT, RED))
    picture = yuv_picture(pixels)
    items = [make_tracked(index / RATE, faces=boxes) for index in range(20)]
    for index, item in enumerate(items):
        frame = dataclasses.replace(item.frame, picture=picture)
        items[index] = dataclasses.replace(item, frame=frame)
    assert run(identifier, items)[-1] == ["Ada"]
