from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.data.pairs import Pair
from engines.decode import Detections, Faces, Objects
from engines.errors import DataError
from engines.evaluation.runner import ModelRunner, SeenPicture
from engines.evaluation.truth import standard_truth
from engines.tasks.identity.metrics import cut_face, gather, main_face, score, score_pairs
from tests.engines.evaluation.colours import PEOPLE, paint, write_people

SIZE = (100, 100)


def faces(boxes: list[tuple[float, float, float, float]], scores: list[float]) -> Faces:
    landmarks = np.zeros((len(boxes), 5, 2), np.float32)
    return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), landmarks)


def test_people_of_different_colours_are_all_told_apart(runner: ModelRunner, data: Path) -> None:
    scores = score(gather(runner, standard_truth(data, ["identity"])))
    assert scores.accuracy == scores.accuracy_end_to_end == 1.0
    assert scores.crops.keys() == {"lfw", "ytf", "bolly", "cross", "ytf_aligned"}
    lfw = scores.crops["lfw"]
    assert (lfw.tar_at_far_1, lfw.tar_at_far_2, lfw.threshold_at_far_3) == (1.0, None, None), "56 impostor pairs"
    assert lfw.roc[0] == (pytest.approx(1 / 56), 1.0) and lfw.roc[-1] == (1.0, 1.0)
    interval = lfw.intervals["accuracy"]
    assert interval is not None and 0.9 < interval.low <= interval.high == 1.0, (
        "neighbours may be missing for a threshold"
    )
    assert scores.identification.keys() == {"lfw_1", "lfw_3", "ytf_1", "ytf_3"}
    assert scores.dir_at_far_1 == scores.identification["lfw_1"].rank1 == 1.0
    assert (lfw.pairs, lfw.genuine, lfw.missed_pairs, lfw.skipped_pairs) == (80, 24, 0, 0)
    assert scores.end_to_end is not None
    assert (scores.end_to_end.pictures, scores.end_to_end.missed) == (48, 0)


def test_a_model_that_finds_no_faces_is_scored_on_crops_alone(runner: ModelRunner, data: Path) -> None:
    network = msgspec.structs.replace(runner.model.spec.network, tasks=("identity",))
    spec = msgspec.structs.replace(runner.model.spec, frame=None, network=network)
    alone = replace(runner, model=replace(runner.model, spec=spec), frame=None)
    scores = score(gather(alone, standard_truth(data, ["identity"])))
    assert scores.accuracy == 1.0
    assert scores.end_to_end is scores.accuracy_end_to_end is None


def test_few_pairs_leave_people_their_other_pictures(runner: ModelRunner, data: Path) -> None:
    scores = score(gather(runner, standard_truth(data, ["identity"], limit=40)))
    assert scores.crops["lfw"].pairs == 40
    assert scores.identification["lfw_1"].mated == 10


def test_the_most_similar_impostors_come_first_and_then_the_least_similar_genuine_pairs(
    runner: ModelRunner, data: Path
) -> None:
    worst = score(gather(runner, standard_truth(data, ["identity"]))).worst
    assert [pair.genuine for pair in worst] == [False] * 5 + [True] * 5
    similar = [pair.similarity for pair in worst]
    assert similar[:5] == sorted(similar[:5], reverse=True) and similar[5:] == sorted(similar[5:])


def test_every_pair_of_a_picture_without_a_face_is_an_error(runner: ModelRunner, tmp_path: Path) -> None:
    write_people(tmp_path)
    blank = tmp_path / "face_recognition/lfw_loose_val" / PEOPLE[0] / "1.png"
    paint(blank, (120, 100), [])
    lines = (tmp_path / "face_recognition/pairs_lfw_loose_val.txt").read_text().splitlines()
    touching = [line for line in lines if f"{PEOPLE[0]}/1.png" in line]
    assert {line[-1] for line in touching} == {"0", "1"}  # both kinds, or the test would show half
    scores = score(gather(runner, standard_truth(tmp_path, ["identity"])))
    whole = scores.end_to_end
    assert whole is not None
    assert (whole.missed, whole.scores.missed_pairs) == (1, len(touching))
    assert scores.accuracy_end_to_end is not None and scores.accuracy_end_to_end < 1.0
    assert whole.found_only is not None
    assert whole.found_only.accuracy == 1.0
    assert whole.found_only.pairs == len(lines) - len(touching)


def test_where_no_face_is_found_at_all_there_is_no_end_to_end_figure(runner: ModelRunner, tmp_path: Path) -> None:
    write_people(tmp_path)
    for picture in (tmp_path / "face_recognition/lfw_loose_val").glob("*/*.png"):
        paint(picture, (120, 100), [])  # as a network sees it that has hardly been trained
    scores = score(gather(runner, standard_truth(tmp_path, ["identity"])))
    assert scores.accuracy == 1.0
    assert scores.end_to_end is scores.accuracy_end_to_end is None


def test_a_crop_that_cannot_be_read_takes_its_pairs_away_and_is_listed(runner: ModelRunner, tmp_path: Path) -> None:
    write_people(tmp_path)
    folder = tmp_path / "face_recognition"
    many = [folder / "val" / name / f"lfw_{number}.png" for name in PEOPLE for number in range(3, 8)]
    for path in many:
        path.write_bytes((path.parent / "lfw_2.png").read_bytes())
    with (folder / "pairs_val_bolly.txt").open("a") as file:
        file.writelines(f"{path.parent.name}/lfw_1.png\t{path.parent.name}/{path.name}\t1\n" for path in many)
    many[0].write_bytes(b"broken")
    scores = score(gather(runner, standard_truth(tmp_path, ["identity"])))
    assert scores.crops["bolly"].skipped_pairs == 1
    assert scores.crops["bolly"].accuracy == 1.0
    (reason,) = scores.skipped
    assert many[0].name in reason


def test_pairs_of_one_kind_that_are_left_are_refused() -> None:
    pairs = [Pair(Path("a/1"), Path("a/2"), True), Pair(Path("a/1"), Path("b/1"), False)]
    one = np.array([1.0], np.float32)
    with pytest.raises(DataError):
        score_pairs(pairs, {Path("a/1"): one, Path("a/2"): one})


@pytest.mark.parametrize(
    ("case", "boxes", "scores", "expected"),
    [
        ("nobody", [], [], None),
        ("the larger one in the middle", [(40, 40, 60, 60), (30, 30, 70, 70)], [0.9, 0.8], 1),
        ("in the middle before larger elsewhere", [(0, 0, 45, 45), (40, 40, 60, 60)], [0.9, 0.8], 1),
        ("nobody in the middle: the largest", [(0, 0, 10, 10), (60, 60, 90, 90)], [0.9, 0.8], 1),
        ("equally large: the surer one", [(30, 30, 60, 60), (40, 40, 70, 70)], [0.5, 0.8], 1),
    ],
)
def test_whom_a_picture_is_about(
    case: str, boxes: list[tuple[float, float, float, float]], scores: list[float], expected: int | None
) -> None:
    assert main_face(faces(boxes, scores), SIZE) == expected


def test_landmarks_that_are_no_face_are_a_miss() -> None:
    nothing = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    on_one_spot = faces([(30, 30, 70, 70)], [0.9])
    seen = SeenPicture(
        Path("x.png"), np.zeros((100, 100, 3), np.uint8), Detections(nothing, on_one_spot, np.ones(1, np.float32))
    )
    assert cut_face(seen) is None
