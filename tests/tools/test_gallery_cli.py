import json
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest

import tools.gallery
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.views import encode_photo
from tests.tools import command_line
from tests.tools.made_engines import MODEL as OTHER
from tests.tools.made_engines import open_made

MODEL = "0123456789abcdef"
trunkline, done, refused = command_line.of("gallery")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.sqlite"
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", np.eye(2, 128, dtype=np.float32), ["a.jpg", "b.jpg"])
        gallery.enroll("Grace", np.eye(1, 128, dtype=np.float32), ["g.jpg"])
    return path


def test_list_shows_everyone(file: Path) -> None:
    said = done("list", "--gallery", file)
    assert "Ada" in said
    assert "Grace" in said


def test_list_as_json(file: Path) -> None:
    told = json.loads(trunkline("list", "--gallery", file, "--json").stdout)
    assert told["model"] == MODEL
    assert [(person["name"], person["embeddings"]) for person in told["people"]] == [("Ada", 2), ("Grace", 1)]


def test_remove_says_what_was_deleted(file: Path) -> None:
    assert done("remove", "Ada", "--gallery", file) == f"Ada and 2 embeddings were deleted from {file}\n"
    with Gallery(file) as gallery:
        assert [person.name for person in gallery.people()] == ["Grace"]


def test_remove_as_json(file: Path) -> None:
    told = json.loads(trunkline("remove", "Grace", "--gallery", file, "--json").stdout)
    assert told == {"removed": "Grace", "embeddings": 1}


def test_remove_of_someone_unknown_is_refused_in_one_sentence(file: Path) -> None:
    assert (
        refused("remove", "Bob", "--gallery", file)
        == f"error: gallery {file}: there is no one called 'Bob', it knows Ada, Grace"
    )


def test_export_goes_to_standard_output(file: Path) -> None:
    told = json.loads(trunkline("export", "--gallery", file).stdout)
    assert [person["name"] for person in told["people"]] == ["Ada", "Grace"]
    assert len(told["people"][0]["embeddings"][0]["vector"]) == 128


def test_export_to_a_file_that_only_its_owner_reads(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "people.json"
    result = trunkline("export", "--gallery", file, "--out", out, "--json")
    assert json.loads(result.stdout) == {"file": str(out), "people": 2}
    assert json.loads(out.read_bytes())["model"] == MODEL
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_export_to_a_place_where_no_file_can_be(file: Path, tmp_path: Path) -> None:
    assert "cannot be written: No such file or directory" in refused(
        "export", "--gallery", file, "--out", tmp_path / "missing" / "people.json"
    )


def test_export_of_a_damaged_gallery_saves_what_can_be_read_and_says_so(file: Path, tmp_path: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("UPDATE embeddings SET vector = x'0102' WHERE person = (SELECT id FROM people WHERE name = 'Grace')")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'embeddings_of'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = bytearray(file.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(content)
    listed = trunkline("list", "--gallery", file)
    assert listed.exit_code == 2 and "is damaged: put a copy of it in its place" in listed.stderr
    result = trunkline("export", "--gallery", file, "--out", tmp_path / "people.json")
    assert result.exit_code == 3, result.output
    assert f"{file} is damaged: 2 of its rows could not be read, or belong to nobody" in result.stderr
    assert trunkline("import", tmp_path / "people.json", "--gallery", tmp_path / "new.sqlite").exit_code == 0


def test_import_brings_an_export_to_another_machine(file: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "people.json", tmp_path / "other.sqlite"
    trunkline("export", "--gallery", file, "--out", out)
    assert done("import", out, "--gallery", other) == f"2 people with 3 embeddings came into {other}\n"
    assert trunkline("export", "--gallery", other).stdout == trunkline("export", "--gallery", file).stdout


def test_import_replaces_people_only_when_asked_to(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "people.json"
    trunkline("export", "--gallery", file, "--out", out)
    assert refused("import", out, "--gallery", file).startswith(
        f"error: gallery {file}: has Ada, Grace already: nobody was imported"
    )
    result = trunkline("import", out, "--gallery", file, "--replace", "--json")
    assert json.loads(result.stdout) == {"people": ["Ada", "Grace"], "embeddings": 3, "replaced": ["Ada", "Grace"]}


def test_import_of_what_is_no_export_makes_no_gallery(file: Path, tmp_path: Path) -> None:
    assert f"export {file}: is not one of a gallery" in refused("import", file, "--gallery", tmp_path / "other.sqlite")
    assert not (tmp_path / "other.sqlite").exists()


def test_expire_renews_and_takes_back_an_expiry(file: Path) -> None:
    expire(file, "Ada")
    assert (
        done("expire", "Ada", "2999-11-30", "--gallery", file, "--consent", "signed again")
        == "Ada expires at 2999-12-01 00:00 UTC\n"
    )
    with Gallery(file) as gallery:
        ada, grace = gallery.people()
        assert (ada.expires_at, ada.expired, ada.consent) == ("2999-12-01T00:00:00.000Z", False, "signed again")
        assert grace.expires_at is None
        assert "Ada" in gallery.snapshot().names, "known again"
    told = json.loads(trunkline("expire", "Ada", "never", "--gallery", file, "--json").stdout)
    assert told == {"name": "Ada", "expires_at": None}
    with Gallery(file) as gallery:
        assert (gallery.people()[0].expires_at, gallery.people()[0].consent) == (None, "signed again")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["Bob", "never"], "there is no one called 'Bob', it knows Ada, Grace"),
        (["Ada", "2020-01-01"], "expires must lie in the future, got '2020-01-01'"),
        (["Ada", "soon"], "expires must be a date such as"),
    ],
)
def test_an_expiry_that_cannot_be_is_refused_in_one_sentence(file: Path, arguments: list[str], sentence: str) -> None:
    assert sentence in refused("expire", *arguments, "--gallery", file)


@pytest.mark.parametrize(
    "verb", [["list"], ["remove", "Ada"], ["expire", "Ada", "never"], ["purge"], ["export"], ["reenroll"]]
)
def test_a_gallery_that_is_not_there_is_refused_and_not_made(verb: list[str], tmp_path: Path) -> None:
    assert "there is no such file" in refused(*verb, "--gallery", tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize(
    "verb", [[], ["list"], ["remove"], ["expire"], ["purge"], ["export"], ["import"], ["reenroll"]]
)
def test_every_verb_has_help_with_an_example(verb: list[str]) -> None:
    assert "Example: trunkline gallery" in done(*verb, "--help")


def expire(file: Path, name: str) -> None:
    with Gallery(file) as gallery, gallery.changing() as db:
        db.execute("UPDATE people SET expires_at = '2020-01-01T00:00:00.000Z' WHERE name = ?", (name,))


def test_list_shows_on_what_terms_people_are_there_and_who_has_expired(file: Path) -> None:
    with Gallery(file) as gallery:
        gallery.enroll(
            "Eve", np.eye(1, 128, dtype=np.float32), ["e.jpg"], terms=Terms("signed", "2999-01-01T00:00:00.000Z")
        )
    expire(file, "Grace")
    people = {
        person["name"]: person for person in json.loads(trunkline("list", "--gallery", file, "--json").stdout)["people"]
    }
    assert people["Eve"]["consent"] == "signed"
    assert people["Eve"]["expires_at"] == "2999-01-01T00:00:00.000Z"
    assert {name: person["expired"] for name, person in people.items()} == {"Ada": False, "Eve": False, "Grace": True}
    shown = trunkline("list", "--gallery", file).stdout
    assert "expired" in shown
    assert "signed" in shown


def test_purge_deletes_those_who_have_expired(file: Path) -> None:
    assert trunkline("purge", "--gallery", file).stdout == "nobody had expired\n"
    expire(file, "Grace")
    assert trunkline("purge", "--gallery", file).stdout == f"deleted from {file} since they had expired: Grace\n"
    with Gallery(file) as gallery:
        assert [person.name for person in gallery.people()] == ["Ada"]
    expire(file, "Ada")
    assert json.loads(trunkline("purge", "--gallery", file, "--json").stdout) == {"removed": ["Ada"]}


@pytest.fixture
def other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.gallery, "load_model", lambda _path: OTHER)
    monkeypatch.setattr(tools.gallery, "open_engine", open_made)


@pytest.mark.usefixtures("other_model")
def test_reenroll_takes_everyone_along_to_another_model(file: Path) -> None:
    with Gallery(file) as gallery:
        gallery.remove("Grace")
        photo = encode_photo(np.full((112, 112, 3), 128, np.uint8))
        gallery.enroll("Ada", np.eye(2, 128, dtype=np.float32), ["a.jpg", "b.jpg"], photos=[photo, None])
    assert json.loads(done("reenroll", "--gallery", file, "--json")) == {
        "model": OTHER.fingerprint,
        "embeddings": 1,
        "without_photo": 1,
    }
    with Gallery(file, OTHER.fingerprint) as gallery:
        assert gallery.snapshot().names == ("Ada",)


@pytest.mark.usefixtures("other_model")
def test_reenroll_names_those_of_whom_no_photo_is_kept(file: Path) -> None:
    before = file.read_bytes()
    assert "nothing was changed, since no photo is kept of Ada, Grace" in refused("reenroll", "--gallery", file)
    assert file.read_bytes() == before
