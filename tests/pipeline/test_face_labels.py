"""What a task of faces says, from the face entry's outputs to messages, events and drawings."""

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from engines.spec import ModelSpec, NetworkSettings
from engines.tasks import REGISTRY, task
from pipeline.events.log import EventLog
from pipeline.frames.types import FaceLabel, FaceLooks, Identified, Result, Tracked
from pipeline.gallery.gallery import Gallery
from pipeline.identity.face_entry import DirectFaces
from pipeline.identity.stage import Identifier
from pipeline.settings.schema import IdentitySettings, SmoothingSettings
from pipeline.sinks.annotate import annotate
from pipeline.smoothing.stage import FaceLabelSmoother, Smoothers
from pipeline.wire.build import event_message, to_message
from pipeline.wire.messages import FaceLabelMessage, FaceMessage, FrameMessage, decode, encode
from tests.pipeline.identity.test_stage import BLUE, GREEN, LEFT, MODEL, RED, RIGHT, ColourEngine, frames
from tests.pipeline.made_results import OBJECTS, SCENES, make_result
from tests.pipeline.made_tracks import Box, make_tracked

LABELS = task("mask").labels
SPEC = ModelSpec(1, "made", None, None, OBJECTS, SCENES, NetworkSettings())
FACE: Box = (100, 80, 160, 160)


class MaskEngine(ColourEngine):
    """Red faces wear a mask, green ones none, blue ones wear it wrongly."""

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        outputs = super().infer(batch)
        return {**outputs, "mask": (0.05 + 0.9 * outputs["embedding"][:, :3]).astype(np.float32)}


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "people.sqlite", MODEL)


def shown(engine: ColourEngine, gallery: Gallery, items: list[Tracked]) -> list[Result]:
    identifier = Identifier(DirectFaces(engine), gallery, IdentitySettings(), 0.5)
    smoothers = Smoothers(SmoothingSettings(), 2, 2)
    return [smoothers.update([identifier.update(item)])[0] for item in items]


def test_every_face_is_told_by_its_own_track_and_keeps_it_between_looks(gallery: Gallery) -> None:
    found = shown(MaskEngine(), gallery, frames(0, 30, t1=(LEFT, RED), t2=(RIGHT, GREEN)))
    for result in found:
        one, other = result.face_labels["mask"]
        assert one is not None and other is not None
        assert (one.label, other.label) == ("mask", "no_mask") and one.score > 0.9
    assert sum(bool(result.looks) for result in found) < len(found), "the face entry did not look in every frame"


def test_without_such_a_task_nothing_is_said(gallery: Gallery) -> None:
    (*_, last) = shown(ColourEngine(), gallery, frames(0, 10, t1=(LEFT, RED)))
    assert not last.face_labels
    (face,) = to_message(last, SPEC, {}).faces
    assert face.mask is msgspec.UNSET and b"mask" not in encode(to_message(last, SPEC, {}), "json")


def test_one_view_does_not_change_a_label_and_several_do() -> None:
    smoother = FaceLabelSmoother(SmoothingSettings(), LABELS)
    faces = make_tracked(0.0, faces={7: FACE}).faces

    def look(time_s: float, label: int) -> str:
        said = np.full((1, 3), 0.05, np.float32)
        said[0, label] = 0.9
        (found,) = smoother.update(time_s, faces, FaceLooks(np.array([0]), said))
        assert found is not None
        return found.label

    assert [look(time_s, 0) for time_s in (0.0, 0.5, 1.0, 1.5)] == ["mask"] * 4
    assert look(2.0, 1) == "mask"
    assert look(2.5, 0) == "mask"
    assert [look(3.0 + 0.5 * count, 1) for count in range(8)][-1] == "no_mask"


def test_a_track_that_ended_and_one_that_was_not_looked_at_have_no_label() -> None:
    smoother = FaceLabelSmoother(SmoothingSettings(), LABELS)
    seen = make_tracked(0.0, faces={1: FACE, 2: FACE})
    looks = FaceLooks(np.array([1]), np.array([[0.1, 0.2, 0.7]], np.float32))
    first, second = smoother.update(0.0, seen.faces, looks)
    assert first is None and second is not None and second.label == "mask_wrong"
    gone = make_tracked(1.0, faces={1: FACE}, faces_ended=[2])
    assert smoother.update(1.0, gone.faces, None) == (None,)
    again = make_tracked(2.0, faces={2: FACE})
    assert smoother.update(2.0, again.faces, None) == (None,)


def test_a_skipped_frame_shows_what_was_known(gallery: Gallery) -> None:
    items = frames(0, 5, t1=(LEFT, BLUE))
    items += [dataclasses.replace(item, carried="unchanged") for item in frames(5, 5, t1=(LEFT, BLUE))]
    labels = [result.face_labels["mask"] for result in shown(MaskEngine(), gallery, items)]
    assert {found.label for (found,) in labels if found} == {"mask_wrong"} and None not in sum(labels, ())


def wearing(*labels: FaceLabel | None, time_s: float = 0.0) -> Result:
    pixels = np.full((240, 320, 3), 120, np.uint8)
    return make_result(pixels, faces=[FACE] * len(labels), time_s=time_s, face_labels={"mask": labels})


def test_messages_have_the_field_where_it_is_known() -> None:
    message = to_message(wearing(FaceLabel("mask", 0.93456), None), SPEC, {})
    one, other = message.faces
    assert one.mask == FaceLabelMessage("mask", 0.935) and other.mask is msgspec.UNSET
    assert b'"mask":{"label":"mask","score":0.935}' in encode(message, "json")
    for encoding in ("json", "msgpack"):
        found = decode(encode(message, encoding))  # type: ignore[arg-type]  # one of the two
        assert isinstance(found, FrameMessage) and found.faces == message.faces


def test_every_task_of_faces_has_a_field_of_its_name() -> None:
    assert {each.name for each in REGISTRY if each.of_faces} <= set(FaceMessage.__struct_fields__)


def test_events_say_what_a_face_is_first_and_then_what_it_was() -> None:
    log = EventLog(OBJECTS, SCENES)
    told = []
    for time_s, label in enumerate((None, "mask", "mask", "no_mask", "no_mask")):
        item = wearing(None if label is None else FaceLabel(label, 0.9), time_s=float(time_s))
        told += [event_message(event) for event in log.update(item)]
    assert [(event.event, event.kind, event.name, event.label, event.previous) for event in told] == [
        ("new", "face", None, None, None),
        ("changed", "face", "mask", "mask", None),
        ("changed", "face", "mask", "no_mask", "mask"),
    ]
    best = told[-1].best_face
    assert best is not None and best.mask == FaceLabelMessage("no_mask", 0.9)
    (ended,) = (event_message(event) for event in log.end("door", "stopped"))
    assert (ended.event, ended.kind) == ("ended", "face")


def test_the_label_is_written_beside_the_name() -> None:
    pixels = np.full((240, 320, 3), 120, np.uint8)
    plain, one, other = (
        annotate(pixels, wearing(label), OBJECTS, SCENES)
        for label in (None, FaceLabel("mask", 0.9), FaceLabel("no_mask", 0.9))
    )
    assert (plain != one).any() and (one != other).any()


def test_identified_frames_say_nothing_of_faces_unless_told() -> None:
    assert not Identified.with_names(make_tracked(0.0, faces={1: FACE}), (None,)).looks
