import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.evaluation import report
from engines.spec import Model
from tests.engines.evaluation.colours import open_colours, write_model
from tools.main import app
from tools.recognition.crops import Crops, read_crops
from tools.recognition.deals import SETTINGS, Enrolled, Setting, deal
from tools.recognition.page import page_of
from tools.recognition.study import METHODS, SINGLE, RecognitionStudy
from tools.recognition.swaps import measure_swaps


def made(people: int = 24, videos: int = 3, frames: int = 4, noise: float = 0.25) -> Crops:
    """People whose frames differ a little within a video and more between videos."""
    generator = np.random.default_rng(2)
    centres = generator.normal(size=(people, 1, 1, 32)) + 0.5 * generator.normal(size=(people, videos, 1, 32))
    faces = (centres + noise * generator.normal(size=(people, videos, frames, 32))).reshape(-1, 32)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    count = len(faces)
    return Crops(
        faces.astype(np.float32),
        np.full(count, 0.5, np.float32),
        np.ones(count, np.float32),
        np.repeat([f"p{person:02d}" for person in range(people)], videos * frames),
        np.tile(np.repeat([str(video) for video in range(videos)], frames), people),
    )


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_nobody_is_dealt_twice_and_no_frame_is_both_enrolled_and_searched_for(setting: Setting) -> None:
    crops = made()
    dealt = deal(crops, setting, 2, seed=1)
    everybody = [*dealt.calibrating, *dealt.known, *dealt.strangers]
    assert sorted(person.name for person in everybody) == sorted(set(crops.people.tolist()))
    assert (len(dealt.calibrating), len(dealt.known), len(dealt.strangers)) == (12, 6, 6)
    for person in everybody:
        shown = np.concatenate(person.tracks)
        assert len(person.enrolled) == 2
        assert not set(person.enrolled.tolist()) & set(shown.tolist())
        assert set(crops.people[np.concatenate([person.enrolled, shown])].tolist()) == {person.name}
        if setting != "any frames":
            assert not set(crops.videos[person.enrolled]) & set(crops.videos[shown])


def test_one_video_gives_a_track_for_each_other_video() -> None:
    (person, *_) = deal(made(), "one video", 1, seed=0).known
    assert [len(track) for track in person.tracks] == [4, 4]


def test_the_same_seed_deals_the_same() -> None:
    first, again = (deal(made(), "any frames", 1, seed=4).known[0] for _ in range(2))
    assert (first.name, first.enrolled.tolist()) == (again.name, again.enrolled.tolist())


@pytest.mark.parametrize("method", list(METHODS))
def test_every_way_finds_people_who_are_easily_told(method: str) -> None:
    crops = made(noise=0.05)
    dealt = deal(crops, "any frames", 2, seed=0)
    enrolled = Enrolled(crops, dealt.known)
    for number, person in enumerate(dealt.known):
        found = enrolled.similarities(METHODS[method](crops, person.tracks[0], enrolled))
        assert found.shape == (len(person.tracks[0]) if method == SINGLE else 1, len(dealt.known))
        assert (found.argmax(axis=1) == number).all()


def test_names_go_with_their_people_and_stay_with_them() -> None:
    found = measure_swaps(made(noise=0.1), 0.5, seeds=2)
    assert found.swaps == found.kept > 6
    assert found.within_10_s > 0.9
    assert found.kept_lost == 0.0
    assert found.median_s < 2.5


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(report, "open_engine", open_colours)
    (tmp_path / "model").mkdir()
    return write_model(tmp_path / "model")


def test_the_pages_hold_every_way_and_setting(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.recognition import study

    monkeypatch.setattr(study, "SEEDS", 1)
    monkeypatch.setattr(study, "FAR", 0.5)
    write_people(tmp_path / "face_recognition")
    folders = {"--data": tmp_path, "--model": model.path, "--out": tmp_path}
    arguments = [str(each) for pair in folders.items() for each in pair]
    result = CliRunner().invoke(app, ["evaluate", "recognition", *arguments])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "recognition.json").read_text())
    assert {row["method"] for row in found["rows"]} == set(METHODS)
    assert {row["setting"] for row in found["rows"]} == set(SETTINGS)
    assert (tmp_path / "recognition.png").stat().st_size > 1000
    page = (tmp_path / "recognition.md").read_text()
    assert all(f"| {method} |" in page for method in METHODS)


def test_frames_come_person_by_person_and_video_by_video(tmp_path: Path, model: Model) -> None:
    write_people(tmp_path / "face_recognition")
    found = read_crops(model, tmp_path, "val")
    assert found.videos[:5].tolist() == ["0", "0", "1", "1", "0"] and found.people[:5].tolist() == ["p00"] * 4 + ["p01"]
    assert len(found.embeddings) == 64 and {path.name for path in tmp_path.iterdir()} == {"face_recognition", "model"}


def write_people(folder: Path) -> None:
    """Sixteen people in two videos of two frames, as the data has them."""
    points = []
    for person in range(16):
        below = folder / "val" / f"p{person:02d}"
        below.mkdir(parents=True)
        for name in ("00", "t01", "10", "11"):
            colour = cv2.cvtColor(np.uint8([[[person * 11, 255, 255]]]), cv2.COLOR_HSV2BGR)
            cv2.imwrite(str(below / f"ytf_{name}.png"), np.tile(colour, (112, 112, 1)))
            five = [[38, 50], [74, 50], [56, 70], [42, 90], [70, 90]]
            points.append({"file": f"{below.name}/ytf_{name}.png", "points5": five})
    (folder / "ytf_landmarks5_val.json").write_text(json.dumps(points))


def test_the_committed_page_is_what_its_results_give() -> None:
    results = Path(__file__).parents[2] / "docs/results"
    found = msgspec.json.decode((results / "recognition.json").read_bytes(), type=RecognitionStudy)
    command = "trunkline evaluate recognition --data DATA --model engines/zoo/n --split val --out docs/results"
    assert page_of(found, command) == (results / "recognition.md").read_text()
