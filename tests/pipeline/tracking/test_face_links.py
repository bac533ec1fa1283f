"""Which face belongs to which person."""

from engines.spec import Thresholds
from pipeline.settings.schema import TrackingSettings
from pipeline.tracking.association import by_coordinate
from pipeline.tracking.face_links import face_fit
from pipeline.tracking.stage import Trackers, track
from tests.pipeline.made_tracks import Box, boxes_array, make_observed, one_by_one

SETTINGS = TrackingSettings(confirm_frames=3, max_lost_s=1.5, low_score_ratio=0.4)
SURE = 0.5
THRESHOLDS = Thresholds(object_score=SURE, face_score=SURE)
PERSON, DOG = 0, 1


def face_links(people: list[Box], faces: list[Box], labels: list[list[int]], person: int | None = PERSON) -> list[int]:
    frames = [make_observed(i / 10, people, faces, labels=row) for i, row in enumerate(labels)]
    return one_by_one(track, frames, Trackers(SETTINGS, THRESHOLDS, person))[-1].face_objects.tolist()


def test_a_face_belongs_to_the_person_whose_head_it_is() -> None:
    people = [(100, 50, 200, 350), (150, 60, 250, 350)]  # side by side, both around both faces
    assert face_links(people, [(180, 70, 220, 120), (130, 60, 170, 110)], [[0, 0]] * 4) == [2, 1]


def test_a_face_at_the_feet_belongs_to_nobody() -> None:
    assert face_links([(100, 50, 200, 350)], [(130, 300, 160, 340)], [[0]] * 4) == [0]


def test_a_face_is_not_given_to_a_dog() -> None:
    assert face_links([(100, 50, 200, 350)], [(130, 60, 170, 110)], [[DOG]] * 4) == [0]


def test_a_model_without_people_links_nothing() -> None:
    assert face_links([(100, 50, 200, 350)], [(130, 60, 170, 110)], [[0]] * 4, person=None) == [0]


def test_a_linked_person_may_flicker_to_another_label() -> None:
    assert face_links([(100, 50, 200, 350)], [(130, 60, 170, 110)], [[0]] * 4 + [[DOG]]) == [1]


def test_a_face_between_two_people_stays_with_the_first() -> None:
    one, face = (100, 50, 200, 350), (150, 60, 180, 100)
    nearer, further = (127, 50, 227, 350), (135, 50, 235, 350)
    frames = [make_observed(i / 10, [one, further if i < 8 else nearer], [face]) for i in range(20)]
    tracked = one_by_one(track, frames, Trackers(SETTINGS, THRESHOLDS, PERSON))
    assert {int(item.face_objects[0]) for item in tracked[3:]} == {1}
    frames = [make_observed(i / 10, [one, nearer], [face]) for i in range(4)]
    newcomer = one_by_one(track, frames, Trackers(SETTINGS, THRESHOLDS, PERSON))
    assert newcomer[-1].face_objects.tolist() == [2]


def test_two_faces_in_one_person_give_it_to_the_better_one() -> None:
    assert face_links([(100, 50, 200, 350)], [(150, 120, 190, 170), (130, 55, 170, 105)], [[0]] * 4) == [0, 1]


def test_a_face_fits_best_in_the_middle_of_the_upper_edge() -> None:
    person = (100.0, 100.0, 200.0, 400.0)
    faces = [
        (130, 100, 170, 150),
        (160, 100, 200, 150),
        (130, 150, 170, 200),
        (130, 300, 170, 350),
        (300, 100, 340, 150),
    ]
    fit = face_fit(by_coordinate(boxes_array(faces)), by_coordinate(boxes_array([person] * len(faces))))
    assert fit[0] == 1.0
    assert 0.0 < fit[1] < fit[0] and 0.0 < fit[2] < fit[0]
    assert fit[3:].tolist() == [0.0, 0.0]
