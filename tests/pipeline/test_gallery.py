import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.errors import GalleryError
from pipeline.gallery import Gallery

MODEL = "0123456789abcdef"


def vectors(count: int, seed: int = 0, length: int = 128) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, length)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.sqlite"


def test_people_come_back_with_their_embeddings(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Grace", vectors(1, seed=1), ["grace.jpg"], [0.7])
        gallery.enroll("Ada", vectors(2, seed=2), ["a.jpg", "b.jpg"])
    with Gallery(path, MODEL) as gallery:
        assert [(person.name, person.embeddings) for person in gallery.people()] == [("Ada", 2), ("Grace", 1)]
        assert gallery.people()[0].added_at.endswith("Z")
        snapshot = gallery.snapshot()
    assert snapshot.names == ("Ada", "Ada", "Grace")
    np.testing.assert_array_equal(snapshot.vectors, np.concatenate([vectors(2, seed=2), vectors(1, seed=1)]))


def test_embeddings_are_stored_with_unit_length(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", 5 * vectors(1), ["a.jpg"])
        np.testing.assert_allclose(np.linalg.norm(gallery.snapshot().vectors, axis=1), 1.0, rtol=1e-6)


def test_enrolling_again_adds_views(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        gallery.enroll("  Ada ", vectors(1, seed=1), ["b.jpg"])
        assert [(person.name, person.embeddings) for person in gallery.people()] == [("Ada", 2)]


def test_an_empty_gallery(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        assert gallery.people() == []
        assert gallery.snapshot().names == ()
        assert len(gallery.snapshot().vectors) == 0


def test_a_name_written_in_two_ways_of_unicode_is_one_person(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ren\u00e9e", vectors(1), ["a.jpg"])
        gallery.enroll("Rene\u0301e", vectors(1), ["b.jpg"])
        assert [person.name for person in gallery.people()] == ["Ren\u00e9e"]
        assert gallery.remove("Rene\u0301e") == 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("  \t ", id="nothing but spaces"),
        pytest.param("x" * 101, id="too long"),
        pytest.param("Ada\nLovelace", id="a line break inside"),
        pytest.param("Ada\x00", id="a zero"),
        pytest.param("Ada\x1b[31m", id="a terminal sequence"),
        pytest.param("Ada\u2028x", id="a line separator"),
        pytest.param("Ada\udc80", id="half a surrogate pair"),
    ],
)
def test_a_name_that_is_not_allowed_stores_nothing(path: Path, name: str) -> None:
    with Gallery(path, MODEL) as gallery:
        with pytest.raises(GalleryError, match="a name must"):
            gallery.enroll(name, vectors(1), ["a.jpg"])
        assert gallery.people() == []


@pytest.mark.parametrize("name", ["x" * 100, "李小龍", "O'Brien; DROP TABLE people", "می‌خواهم"])
def test_names_that_are_allowed(path: Path, name: str) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll(name, vectors(1), ["a.jpg"])
        assert gallery.snapshot().names == (name,)


@pytest.mark.parametrize(
    ("embeddings", "sentence"),
    [
        (np.zeros((1, 128), np.float32), "finite and not zero"),
        (np.full((1, 128), np.nan, np.float32), "finite and not zero"),
        (np.zeros((0, 128), np.float32), "at least one row"),
        (vectors(1)[0], "must have shape"),
        (vectors(1, length=64), "must have 128 numbers, got 64"),
    ],
)
def test_embeddings_that_are_none_are_refused(path: Path, embeddings: np.ndarray, sentence: str) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        with pytest.raises(GalleryError, match=sentence):
            gallery.enroll("Grace", embeddings, ["b.jpg"])
        assert [person.name for person in gallery.people()] == ["Ada"]


def test_sources_and_embeddings_of_different_number_store_nothing(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        with pytest.raises(ValueError, match="shorter"):
            gallery.enroll("Ada", vectors(2), ["a.jpg"])
        assert gallery.people() == []


def test_removing_says_how_many_went_and_leaves_no_trace(path: Path) -> None:
    with Gallery(path, MODEL) as gallery, Gallery(path, MODEL) as elsewhere:
        gallery.enroll("Ada Lovelace", vectors(30), ["secret-photo.jpg"] * 30)
        gallery.enroll("Grace", vectors(2, seed=1), ["g1.jpg", "g2.jpg"])
        assert len(elsewhere.people()) == 2
        assert gallery.remove("Ada Lovelace") == 30
        assert [person.name for person in elsewhere.people()] == ["Grace"]
        bytes_left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"Grace" in bytes_left
    for trace in (b"Ada Lovelace", b"secret-photo", vectors(30)[17].tobytes()[:64]):
        assert trace not in bytes_left


def test_removing_someone_unknown_names_those_it_knows(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        with pytest.raises(GalleryError, match="no one called 'Bob', it is empty"):
            gallery.remove("Bob")
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        gallery.enroll("Grace", vectors(1), ["a.jpg"])
        with pytest.raises(GalleryError, match="no one called 'Bob', it knows Ada, Grace"):
            gallery.remove("Bob")


def test_export_holds_everything(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(2), ["a.jpg", "b.jpg"], [0.5, 0.9])
        exported = msgspec.json.decode(msgspec.json.encode(gallery.export()))
    assert exported["model"] == MODEL
    (person,) = exported["people"]
    assert person["name"] == "Ada"
    assert [(view["source"], view["quality"]) for view in person["embeddings"]] == [("a.jpg", 0.5), ("b.jpg", 0.9)]
    np.testing.assert_allclose([view["vector"] for view in person["embeddings"]], vectors(2))


def test_the_revision_changes_with_every_change_and_with_nothing_else(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        start = gallery.revision
        gallery.people()
        gallery.snapshot()
        assert gallery.revision == start
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        enrolled = gallery.revision
        gallery.remove("Ada")
        assert len({start, enrolled, gallery.revision}) == 3


def test_another_process_that_enrols_is_seen_at_once(path: Path) -> None:
    script = (
        "import sys, numpy as np; from pipeline.gallery import Gallery\n"
        f"with Gallery(sys.argv[1], {MODEL!r}) as g: g.enroll('Ada', np.eye(1, 128, dtype=np.float32), ['a.jpg'])"
    )
    with Gallery(path, MODEL) as gallery:
        before = gallery.revision
        subprocess.run([sys.executable, "-c", script, str(path)], check=True, cwd=Path(__file__).parents[2], timeout=60)
        assert gallery.revision != before
        assert gallery.snapshot().names == ("Ada",)


def test_a_gallery_of_another_model_is_refused_and_says_what_to_do(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
    with pytest.raises(GalleryError, match=f"made with model {MODEL}, not with ffff.*enrol everyone again"):
        Gallery(path, "ffff")
    with Gallery(path) as gallery:
        assert gallery.model == MODEL


def test_an_empty_gallery_takes_the_next_model(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        gallery.remove("Ada")
    with Gallery(path, "ffff") as gallery:
        assert gallery.model == "ffff"


def test_a_file_of_something_else_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"these are my holiday notes\n" * 100)
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="is not a gallery"):
        Gallery(path, MODEL)
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE people (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="is a database of something else"):
        Gallery(path, MODEL)
    assert path.read_bytes() == before


def test_a_gallery_of_a_later_format_is_refused(path: Path) -> None:
    Gallery(path, MODEL).close()
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 2")
    later.close()
    with pytest.raises(GalleryError, match="has format 2, this version reads format 1"):
        Gallery(path, MODEL)


def test_a_damaged_embedding_is_an_error_and_not_a_face(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(2), ["a.jpg", "b.jpg"])
        with sqlite3.connect(path) as other:
            other.execute("UPDATE embeddings SET vector = x'0102' WHERE source = 'b.jpg'")
        other.close()
        with pytest.raises(GalleryError, match="is damaged"):
            gallery.snapshot()


@pytest.mark.parametrize("name", ["missing/people.sqlite", "."])
def test_a_place_where_no_file_can_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(GalleryError, match="cannot be opened"):
        Gallery(tmp_path / name, MODEL)


def test_looking_at_a_gallery_makes_none(path: Path) -> None:
    with pytest.raises(GalleryError, match="there is no such file"):
        Gallery(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(GalleryError, match="an empty file"):
        Gallery(path)


def test_only_its_owner_can_read_it(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_a_gallery_that_was_closed_says_so(path: Path) -> None:
    gallery = Gallery(path, MODEL)
    gallery.close()
    gallery.close()
    with pytest.raises(GalleryError, match="cannot be used"):
        gallery.people()
