import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tools.enroll
from engines.errors import EnrollError, GalleryError
from pipeline.enrolling import FaceReader, enroll_photos
from pipeline.gallery import Gallery
from tests.engines.made_models import write_partial_model
from tests.tools.made_engines import MODEL, MadeEngine, open_made, photo
from tools.main import app

FACE = (100, 80, 80, 100)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "people.sqlite", MODEL.fingerprint)


@pytest.fixture
def reader() -> FaceReader:
    return FaceReader(MODEL.spec, MadeEngine("frame"), MadeEngine("face"))


def test_a_photo_is_enrolled_as_the_mean_of_the_face_and_its_mirror_image(
    reader: FaceReader, gallery: Gallery, tmp_path: Path
) -> None:
    (quality,) = enroll_photos(reader, gallery, "Ada", [photo(tmp_path / "ada.png", FACE)])
    assert quality == pytest.approx((200 + 250) / 2 / 255, abs=0.01)
    snapshot = gallery.snapshot()
    assert snapshot.names == ("Ada",)
    assert snapshot.vectors[0, 0] == pytest.approx(np.cos(np.arccos([200 / 255, 250 / 255]).mean()), abs=0.01)
    assert gallery.export().people[0].embeddings[0].source == "ada.png"


def test_several_photos_are_several_embeddings(reader: FaceReader, gallery: Gallery, tmp_path: Path) -> None:
    photos = [photo(tmp_path / "a.png", FACE), photo(tmp_path / "b.jpg", FACE, size=(1600, 900))]
    assert len(enroll_photos(reader, gallery, "Ada", photos)) == 2
    assert [person.embeddings for person in gallery.people()] == [2]


def test_a_small_face_in_the_background_does_no_harm(reader: FaceReader, gallery: Gallery, tmp_path: Path) -> None:
    enroll_photos(reader, gallery, "Ada", [photo(tmp_path / "ada.png", (300, 20, 30, 38), FACE)])
    assert [person.name for person in gallery.people()] == ["Ada"]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(lambda p: photo(p / "x.png"), "x.png: shows no face$", id="no face"),
        pytest.param(
            lambda p: photo(p / "x.png", FACE, (250, 80, 60, 70)),
            "x.png: shows 2 faces, but must show one person alone",
            id="two faces",
        ),
        pytest.param(
            lambda p: photo(p / "x.png", (100, 80, 16, 20)),
            r"x.png: its face is 2\d pixels high, but must be at least 24",
            id="a face too small",
        ),
        pytest.param(lambda p: p / "x.png", "x.png: cannot be read: No such file", id="a missing file"),
        pytest.param(lambda p: p, "cannot be read: Is a directory", id="a folder"),
        pytest.param(lambda p: write(p / "x.png", b"no picture"), "x.png: is not a picture", id="not a picture"),
        pytest.param(lambda p: write(p / "x.png", b""), "x.png: cannot be decoded", id="an empty file"),
    ],
)
def test_a_photo_that_is_refused_stores_nothing_of_the_others(
    reader: FaceReader, gallery: Gallery, tmp_path: Path, make: object, sentence: str
) -> None:
    assert callable(make)
    photos = [photo(tmp_path / "good.png", FACE), make(tmp_path), photo(tmp_path / "good_too.png", FACE)]
    with pytest.raises(EnrollError, match=sentence):
        enroll_photos(reader, gallery, "Ada", photos)
    assert gallery.people() == []


def test_a_bad_name_is_refused_before_any_photo_is_read(reader: FaceReader, gallery: Gallery) -> None:
    with pytest.raises(GalleryError, match="control characters"):
        enroll_photos(reader, gallery, "A\x07da", [Path("nowhere.jpg")])


def test_no_photo_at_all_is_refused(reader: FaceReader, gallery: Gallery) -> None:
    with pytest.raises(EnrollError, match="at least one photo"):
        enroll_photos(reader, gallery, "Ada", [])


@pytest.fixture
def made_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.enroll, "load_model", lambda _path: MODEL)
    monkeypatch.setattr(tools.enroll, "open_engine", open_made)


def trunkline(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("made_model")
def test_the_command_enrols_and_says_how_good_the_photos_are(tmp_path: Path) -> None:
    picture, file = photo(tmp_path / "ada.png", FACE), tmp_path / "people.sqlite"
    result = trunkline("enroll", "Ada", picture, "--gallery", file)
    assert result.exit_code == 0, result.output
    assert "ada.png: quality 0.88" in result.stdout
    assert "Ada is in" in result.stdout
    with Gallery(file, MODEL.fingerprint) as gallery:
        assert [person.name for person in gallery.people()] == ["Ada"]


@pytest.mark.usefixtures("made_model")
def test_the_command_prints_json_for_scripts(tmp_path: Path) -> None:
    picture, file = photo(tmp_path / "ada.png", FACE), tmp_path / "people.sqlite"
    result = trunkline("enroll", " Ada ", picture, picture, "--gallery", file, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["name"], told["gallery"]) == ("Ada", str(file))
    assert [view["photo"] for view in told["photos"]] == [str(picture)] * 2
    assert told["photos"][0]["quality"] == pytest.approx(0.882, abs=0.01)


@pytest.mark.usefixtures("made_model")
def test_the_command_refuses_a_photo_in_one_sentence(tmp_path: Path) -> None:
    picture = photo(tmp_path / "nobody.png")
    result = trunkline("enroll", "Ada", picture, "--gallery", tmp_path / "people.sqlite")
    assert result.exit_code == 2
    assert result.stderr == f"error: photo {picture}: shows no face\n"
    assert result.stdout == ""


def test_the_command_refuses_a_missing_model(tmp_path: Path) -> None:
    result = trunkline(
        "enroll", "Ada", photo(tmp_path / "a.png", FACE), "--gallery", tmp_path / "g", "--model", tmp_path / "none"
    )
    assert result.exit_code == 2
    assert "cannot read spec.json" in result.stderr
    assert not (tmp_path / "g").exists()


def test_the_command_refuses_a_model_that_tells_nobody_apart(tmp_path: Path) -> None:
    write_partial_model(tmp_path / "model", "scene")
    picture, gallery = photo(tmp_path / "a.png", FACE), tmp_path / "people.sqlite"
    result = trunkline("enroll", "Ada", picture, "--gallery", gallery, "--model", tmp_path / "model")
    assert result.exit_code == 2
    needs = f"enroll needs a model that knows faces, identity; model {tmp_path / 'model'} knows scene"
    assert result.stderr == f"error: {needs}\n"
    assert not gallery.exists()


def test_the_command_needs_a_photo(tmp_path: Path) -> None:
    result = trunkline("enroll", "Ada", "--gallery", tmp_path / "people.sqlite")
    assert result.exit_code == 2
    assert "PHOTO" in result.stderr
