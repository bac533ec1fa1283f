import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import tools.enroll
from engines.arrays import Pixels
from engines.errors import EnrollError, GalleryError
from engines.pictures import read_rgb
from pipeline.gallery.enrolling import EnrollOptions, FaceReader, enroll_people, enroll_photos, people_in, reenroll
from pipeline.gallery.export import export_gallery
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.track_requests import Request
from pipeline.gallery.views import decode_photo
from tests.engines.made_models import write_partial_model
from tests.tools.command_line import done, refused, run
from tests.tools.made_engines import MODEL, MadeEngine, open_made, photo

FACE = (100, 80, 80, 100)
NO_FACE = "shows no face; where there is one, crop the photo to it"


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "people.sqlite", MODEL.fingerprint)


@pytest.fixture
def reader() -> FaceReader:
    return FaceReader(MODEL.spec, MadeEngine("frame"), MadeEngine("face"))


def test_a_photo_is_enrolled_as_the_mean_of_the_face_and_its_mirror_image(
    reader: FaceReader, gallery: Gallery, tmp_path: Path
) -> None:
    (taken,) = enroll_photos(reader, gallery, "Ada", [photo(tmp_path / "ada.png", FACE)])
    assert (taken.photo, taken.flaw) == (tmp_path / "ada.png", None)
    assert taken.quality == pytest.approx((200 + 250) / 2 / 255, abs=0.01)
    snapshot = gallery.snapshot()
    assert snapshot.names == ("Ada",)
    assert snapshot.vectors[0, 0] == pytest.approx(np.cos(np.arccos([200 / 255, 250 / 255]).mean()), abs=0.01)
    assert export_gallery(gallery).people[0].embeddings[0].source == "ada.png"


def test_several_photos_are_several_embeddings(reader: FaceReader, gallery: Gallery, tmp_path: Path) -> None:
    photos = [photo(tmp_path / "a.png", FACE), photo(tmp_path / "b.jpg", FACE, size=(1600, 900))]
    assert len(enroll_photos(reader, gallery, "Ada", photos)) == 2
    assert [person.embeddings for person in gallery.people()] == [2]


def test_a_small_face_in_the_background_does_no_harm(reader: FaceReader, gallery: Gallery, tmp_path: Path) -> None:
    enroll_photos(reader, gallery, "Ada", [photo(tmp_path / "ada.png", (300, 20, 30, 38), FACE)])
    assert [person.name for person in gallery.people()] == ["Ada"]


@pytest.mark.parametrize(
    "at", [(0, 0), (2000, 1400), (3950, 2940), (1150, 730)], ids=["corner", "middle", "end", "seam"]
)
def test_a_face_that_is_small_in_a_large_photo_is_found_at_a_second_look(
    reader: FaceReader, gallery: Gallery, tmp_path: Path, at: tuple[int, int]
) -> None:
    """4 pixels wide in the network's input."""
    large = photo(tmp_path / "ada.png", (*at, 44, 55), size=(4000, 3000))
    assert not len(reader._find_in(read_rgb(large)).scores)
    faces = reader.find(read_rgb(large))
    assert len(faces.scores) == 1, "in every part that shows it, but one face"
    assert faces.boxes[0].tolist() == pytest.approx([at[0], at[1], at[0] + 44, at[1] + 55], abs=60)
    enroll_photos(reader, gallery, "Ada", [large])


def test_a_small_photo_is_not_looked_at_twice(
    reader: FaceReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Pixels] = []
    infer = MadeEngine.infer
    monkeypatch.setattr(MadeEngine, "infer", lambda self, batch: looks.append(batch) or infer(self, batch))
    reader.find(read_rgb(photo(tmp_path / "x.png")))
    assert len(looks) == 1


def blurred(path: Path) -> Path:
    assert cv2.imwrite(str(path), cv2.blur(cv2.imread(str(photo(path, FACE))), (9, 1)))
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(
            lambda p: photo(p / "x.png"),
            "x.png: shows no face; where there is one, crop the photo to it$",
            id="no face",
        ),
        pytest.param(
            lambda p: photo(p / "x.png", FACE, (250, 80, 60, 70)),
            "x.png: shows 2 faces, but must show one person alone",
            id="two faces",
        ),
        pytest.param(
            lambda p: photo(p / "x.png", (100, 80, 16, 20)),
            r"x.png: its face is 2\d pixels high, but must be at least 40",
            id="a face too small",
        ),
        pytest.param(
            lambda p: blurred(p / "x.png"), "x.png: its face is blurred: its sharpness is", id="a blurred face"
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


def test_a_poor_photo_is_taken_where_that_is_wanted_and_named(
    reader: FaceReader, gallery: Gallery, tmp_path: Path
) -> None:
    photos = [blurred(tmp_path / "a.png"), photo(tmp_path / "b.png", FACE)]
    poor, good = enroll_photos(reader, gallery, "Ada", photos, EnrollOptions(accept_poor=True))
    assert poor.flaw is not None and poor.flaw.startswith("is blurred")
    assert good.flaw is None
    with pytest.raises(EnrollError, match="shows no face"):
        enroll_photos(reader, gallery, "Ada", [photo(tmp_path / "c.png")], EnrollOptions(accept_poor=True))


def test_terms_are_kept_and_photos_only_where_that_is_wanted(
    reader: FaceReader, gallery: Gallery, tmp_path: Path
) -> None:
    terms = Terms("signed", "2999-01-01T00:00:00.000Z")
    enroll_photos(reader, gallery, "Ada", [photo(tmp_path / "ada.png", FACE)], EnrollOptions(terms, keep_photos=True))
    enroll_photos(reader, gallery, "Grace", [photo(tmp_path / "grace.png", FACE)], EnrollOptions(terms))
    assert [(person.consent, person.expires_at) for person in gallery.people()] == [
        (terms.consent, terms.expires_at)
    ] * 2
    ada, grace = gallery.photos()
    assert grace.jpeg is None
    assert ada.jpeg is not None
    assert decode_photo(ada.jpeg)[40:80, 30:50, 2].mean() == pytest.approx(200, abs=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ada with two good photos and a poor one, Grace with one, Bob with none that is good, and what lies around."""
    root = tmp_path / "people"
    for name in ("Ada", "Grace", "Bob", "Nobody", ".hidden"):
        (root / name).mkdir(parents=True)
    photo(root / "Ada/1.png", FACE)
    photo(root / "Ada/2.png", FACE, size=(500, 300))
    blurred(root / "Ada/3.png")
    write(root / "Ada/.DS_Store", b"x")
    photo(root / "Grace/1.png", FACE)
    photo(root / "Bob/1.png")
    write(root / "Bob/notes.txt", b"a good friend")
    write(root / "list.txt", b"Ada, Grace")
    return root


def test_of_a_folder_all_good_photos_are_enrolled_and_the_others_told(
    reader: FaceReader, gallery: Gallery, folder: Path
) -> None:
    people, strays = people_in(folder)
    assert [stray.photo.name for stray in strays] == ["list.txt"]
    told = {name: (taken, refused) for name, taken, refused in enroll_people(reader, gallery, people)}
    assert {name: (len(taken), len(refused)) for name, (taken, refused) in told.items()} == {
        "Ada": (2, 1),
        "Bob": (0, 2),
        "Grace": (1, 0),
        "Nobody": (0, 0),
    }
    assert [person.name for person in gallery.people()] == ["Ada", "Grace"]
    reasons = {refused.photo.name: refused.reason for _, refusals in told.values() for refused in refusals}
    assert reasons["3.png"].startswith("its face is blurred")
    assert reasons["1.png"] == NO_FACE
    assert "is not a picture" in reasons["notes.txt"]


def test_a_folder_that_is_enrolled_again_adds_nothing(reader: FaceReader, gallery: Gallery, folder: Path) -> None:
    for _ in range(2):
        list(enroll_people(reader, gallery, people_in(folder)[0]))
        assert gallery.size == len(gallery.snapshot().names)
    size = gallery.size
    list(enroll_people(reader, gallery, people_in(folder)[0]))
    assert gallery.size == size


def test_two_folders_for_one_name_are_one_person(reader: FaceReader, gallery: Gallery, tmp_path: Path) -> None:
    for name, size in (("Ren\u00e9e", (400, 300)), ("Rene\u0301e", (500, 300))):
        (tmp_path / "people" / name).mkdir(parents=True)
        photo(tmp_path / "people" / name / "1.png", FACE, size=size)
    people, _ = people_in(tmp_path / "people")
    assert [(name, len(photos)) for name, photos in people.items()] == [("Ren\u00e9e", 2)]


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_a_folder_that_has_nobody_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EnrollError, match=f"folder .*{name}: "):
        people_in(tmp_path / name)


class OtherEngine(MadeEngine):
    """A face entry of another model: its numbers stand elsewhere, and are fewer."""

    def _embeddings(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = super()._embeddings(batch)
        return outputs | {"embedding": np.roll(outputs["embedding"], 5, axis=1)[:, :64]}


def test_people_are_enrolled_again_with_another_model_from_the_photos_that_are_kept(
    reader: FaceReader, gallery: Gallery, tmp_path: Path
) -> None:
    photos = [photo(tmp_path / "a.png", FACE), photo(tmp_path / "b.png", FACE, size=(600, 500))]
    enroll_photos(reader, gallery, "Ada", photos, EnrollOptions(keep_photos=True))
    enroll_photos(reader, gallery, "Grace", photos[:1], EnrollOptions(keep_photos=True))
    before = gallery.snapshot()
    gallery.enroll("Ada", np.eye(1, 128, dtype=np.float32), ["a track"])  # has no photo
    steps: list[None] = []
    assert reenroll(OtherEngine("face"), gallery, "ffff", lambda: steps.append(None)) == (3, 1)
    assert len(steps) == 4
    with Gallery(gallery.path, "ffff") as again:
        snapshot = again.snapshot()
        assert snapshot.names == before.names == ("Ada", "Ada", "Grace")
        np.testing.assert_allclose(snapshot.vectors, np.roll(before.vectors, 5, axis=1)[:, :64], atol=0.03)


def test_nothing_changes_when_somebody_cannot_be_enrolled_again(
    reader: FaceReader, gallery: Gallery, tmp_path: Path
) -> None:
    enroll_photos(reader, gallery, "Ada", [photo(tmp_path / "a.png", FACE)], EnrollOptions(keep_photos=True))
    gallery.enroll("Bob", np.eye(1, 128, dtype=np.float32), ["b.jpg"])
    gallery.enroll("Eve", np.eye(1, 128, dtype=np.float32), ["e.jpg"])
    before = export_gallery(gallery)
    with pytest.raises(GalleryError, match="nothing was changed, since no photo is kept of Bob, Eve: enrol them"):
        reenroll(OtherEngine("face"), gallery, "ffff")
    assert export_gallery(gallery) == before


def test_a_damaged_photo_is_named_and_changes_nothing(reader: FaceReader, gallery: Gallery, tmp_path: Path) -> None:
    gallery.enroll("Ada", np.eye(1, 128, dtype=np.float32), ["a.jpg"], photos=[b"no jpeg"])
    before = export_gallery(gallery)
    with pytest.raises(GalleryError, match=r"Ada: a stored photo is damaged.*; nothing was changed"):
        reenroll(OtherEngine("face"), gallery, "ffff")
    assert export_gallery(gallery) == before


@pytest.fixture
def made_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.enroll, "load_model", lambda _path: MODEL)
    monkeypatch.setattr(tools.enroll, "open_engine", open_made)


@pytest.mark.usefixtures("made_model")
def test_the_command_enrols_and_says_how_good_the_photos_are(tmp_path: Path) -> None:
    picture, file = photo(tmp_path / "ada.png", FACE), tmp_path / "people.sqlite"
    said = done("enroll", "Ada", picture, "--gallery", file)
    assert "ada.png: quality 0.88" in said
    assert "Ada is in" in said
    with Gallery(file, MODEL.fingerprint) as gallery:
        assert [person.name for person in gallery.people()] == ["Ada"]


@pytest.mark.usefixtures("made_model")
def test_the_command_prints_json_for_scripts(tmp_path: Path) -> None:
    picture, file = photo(tmp_path / "ada.png", FACE), tmp_path / "people.sqlite"
    told = json.loads(done("enroll", " Ada ", picture, picture, "--gallery", file, "--json"))
    assert (told["name"], told["gallery"]) == ("Ada", str(file))
    assert [view["photo"] for view in told["photos"]] == [str(picture)] * 2
    assert told["photos"][0]["quality"] == pytest.approx(0.882, abs=0.01)


@pytest.mark.usefixtures("made_model")
def test_the_command_refuses_a_photo_in_one_sentence(tmp_path: Path) -> None:
    picture = photo(tmp_path / "nobody.png")
    assert (
        refused("enroll", "Ada", picture, "--gallery", tmp_path / "people.sqlite")
        == f"error: photo {picture}: {NO_FACE}"
    )


def test_the_command_refuses_a_missing_model(tmp_path: Path) -> None:
    assert "cannot read spec.json" in refused(
        "enroll", "Ada", photo(tmp_path / "a.png", FACE), "--gallery", tmp_path / "g", "--model", tmp_path / "none"
    )
    assert not (tmp_path / "g").exists()


def test_the_command_refuses_a_model_that_tells_nobody_apart(tmp_path: Path) -> None:
    write_partial_model(tmp_path / "model", "scene")
    picture, gallery = photo(tmp_path / "a.png", FACE), tmp_path / "people.sqlite"
    needs = f"enroll needs a model that knows faces, identity; model {tmp_path / 'model'} knows scene"
    assert refused("enroll", "Ada", picture, "--gallery", gallery, "--model", tmp_path / "model") == f"error: {needs}"
    assert not gallery.exists()


def test_the_command_needs_a_photo(tmp_path: Path) -> None:
    assert "PHOTO" in refused("enroll", "Ada", "--gallery", tmp_path / "people.sqlite")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nobody"),
        pytest.param(["Ada", "a.jpg", "--track", "door:1"], id="a photo and a track"),
        pytest.param(["Ada", "--folder", "people"], id="a name for a folder"),
        pytest.param(["--track", "door:1"], id="a track without a name"),
        pytest.param(["--folder", "people", "--track", "door:1"], id="a folder and a track"),
    ],
)
def test_the_command_takes_one_thing_to_enrol(tmp_path: Path, arguments: list[str]) -> None:
    assert refused("enroll", *arguments, "--gallery", tmp_path / "people.sqlite") == (
        "error: enroll takes a NAME with one PHOTO or more, a NAME with --track, or --folder alone"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("made_model")
def test_the_command_enrols_a_folder_and_tells_what_it_refused(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.sqlite"
    result = run("enroll", "--folder", folder, "--gallery", file, "--consent", "signed", "--expires", "2999-12-31")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"2 people are in {file} with 3 photos; 4 refused\n"
    assert f"refused: {folder / 'Bob/1.png'}: {NO_FACE}\n" in result.stderr
    assert f"refused: {folder / 'list.txt'}: lies in no person's folder\n" in result.stderr
    with Gallery(file) as gallery:
        people = [(person.consent, person.expires_at) for person in gallery.people()]
    assert people == [("signed", "3000-01-01T00:00:00.000Z")] * 2


@pytest.mark.usefixtures("made_model")
def test_the_command_tells_of_a_folder_as_json(folder: Path, tmp_path: Path) -> None:
    result = run("enroll", "--folder", folder, "--gallery", tmp_path / "people.sqlite", "--json")
    told = json.loads(result.stdout)
    assert {name: len(views) for name, views in told["people"].items()} == {"Ada": 2, "Grace": 1}
    assert {Path(each["photo"]).name for each in told["refused"]} == {"1.png", "3.png", "notes.txt", "list.txt"}
    assert all(each["reason"] for each in told["refused"])


@pytest.mark.usefixtures("made_model")
def test_a_folder_of_which_nobody_was_enrolled_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "people/Bob").mkdir(parents=True)
    photo(tmp_path / "people/Bob/1.png")
    result = run("enroll", "--folder", tmp_path / "people", "--gallery", tmp_path / "people.sqlite")
    assert result.exit_code == 2
    assert "error: nobody was enrolled: 1 photo of the folder refused\n" in result.stderr


@pytest.mark.usefixtures("made_model")
def test_the_command_warns_of_a_poor_photo_that_it_takes(tmp_path: Path) -> None:
    picture = blurred(tmp_path / "ada.png")
    result = run("enroll", "Ada", picture, "--gallery", tmp_path / "people.sqlite", "--accept-poor")
    assert result.exit_code == 0, result.output
    assert f"warning: {picture}: its face is blurred" in result.stderr


@pytest.mark.parametrize("track", ["door", ":7", "door:", "door:x", "door:-1"])
def test_a_track_that_is_none_is_refused(tmp_path: Path, track: str) -> None:
    assert (
        refused("enroll", "Ada", "--track", track, "--gallery", tmp_path / "people.sqlite")
        == f"error: --track must be STREAM:ID, such as door:17, got {track!r}"
    )


def test_the_command_asks_for_a_track(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def answer(_gallery: Gallery, request: Request) -> list[float]:
        asked.append(request)
        return [0.8, 0.7]

    monkeypatch.setattr(tools.enroll, "enroll_track", answer)
    arguments = ("enroll", " Ada ", "--track", "cam:2:17", "--gallery", gallery.path, "--keep-photos")
    assert run(*arguments).stdout == f"Ada is in {gallery.path} with 2 more views of cam:2:17\n"
    assert asked == [Request("cam:2", 17, " Ada ", Terms(), True)]
    assert json.loads(run(*arguments, "--json").stdout)["qualities"] == [0.8, 0.7]


def test_a_track_needs_a_gallery_that_is_there(tmp_path: Path) -> None:
    assert "there is no such file" in refused(
        "enroll", "Ada", "--track", "door:7", "--gallery", tmp_path / "none.sqlite"
    )
