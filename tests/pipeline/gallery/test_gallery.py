import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.errors import GalleryError
from pipeline.database import sqlite_file
from pipeline.frames.clock import timestamp
from pipeline.gallery.export import export_gallery
from pipeline.gallery.file import FORMAT_1
from pipeline.gallery.gallery import Gallery, Terms, agreed

MODEL = "0123456789abcdef"


def vectors(count: int, seed: int = 0, length: int = 128) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, length)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.sqlite"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    with Gallery(path, MODEL) as gallery:
        yield gallery


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


def test_embeddings_are_stored_with_unit_length(gallery: Gallery) -> None:
    gallery.enroll("Ada", 5 * vectors(1), ["a.jpg"])
    np.testing.assert_allclose(np.linalg.norm(gallery.snapshot().vectors, axis=1), 1.0, rtol=1e-6)


def test_enrolling_again_adds_views(gallery: Gallery) -> None:
    gallery.enroll("Ada", vectors(1), ["a.jpg"])
    gallery.enroll("  Ada ", vectors(1, seed=1), ["b.jpg"])
    assert [(person.name, person.embeddings) for person in gallery.people()] == [("Ada", 2)]


def test_an_empty_gallery(gallery: Gallery) -> None:
    assert gallery.people() == []
    assert gallery.snapshot().names == ()
    assert len(gallery.snapshot().vectors) == 0


def test_a_name_written_in_two_ways_of_unicode_is_one_person(gallery: Gallery) -> None:
    gallery.enroll("Ren\u00e9e", vectors(1), ["a.jpg"])
    gallery.enroll("Rene\u0301e", vectors(1, seed=1), ["b.jpg"])
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
def test_a_name_that_is_not_allowed_stores_nothing(gallery: Gallery, name: str) -> None:
    with pytest.raises(GalleryError, match="a name must"):
        gallery.enroll(name, vectors(1), ["a.jpg"])
    assert gallery.people() == []


@pytest.mark.parametrize("name", ["x" * 100, "李小龍", "O'Brien; DROP TABLE people", "می‌خواهم"])
def test_names_that_are_allowed(gallery: Gallery, name: str) -> None:
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
def test_embeddings_that_are_none_are_refused(gallery: Gallery, embeddings: np.ndarray, sentence: str) -> None:
    gallery.enroll("Ada", vectors(1), ["a.jpg"])
    with pytest.raises(GalleryError, match=sentence):
        gallery.enroll("Grace", embeddings, ["b.jpg"])
    assert [person.name for person in gallery.people()] == ["Ada"]


def test_sources_and_embeddings_of_different_number_store_nothing(gallery: Gallery) -> None:
    with pytest.raises(ValueError, match="shorter"):
        gallery.enroll("Ada", vectors(2), ["a.jpg"])
    assert gallery.people() == []


def test_removing_says_how_many_went_and_leaves_no_trace(path: Path) -> None:
    with Gallery(path, MODEL) as gallery, Gallery(path, MODEL) as elsewhere:
        gallery.enroll("Ada Lovelace", vectors(30), ["secret-photo.jpg"] * 30)
        gallery.enroll("Grace", vectors(2, seed=1), ["g1.jpg", "g2.jpg"])
        assert len(elsewhere.people()) == 2
        stored = gallery.snapshot().vectors[17].tobytes()
        assert gallery.remove("Ada Lovelace") == 30
        assert [person.name for person in elsewhere.people()] == ["Grace"]
        bytes_left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"Grace" in bytes_left
    for trace in (b"Ada Lovelace", b"secret-photo", stored[:64]):
        assert trace not in bytes_left


def test_nothing_stays_in_the_file_of_any_of_many_who_came_and_went(path: Path) -> None:
    rng = np.random.default_rng(0)
    faces = vectors(400)
    photos = [rng.bytes(int(size)) for size in rng.integers(100, 9000, len(faces))]
    with Gallery(path, MODEL) as gallery:
        for row, (face, crop) in enumerate(zip(faces, photos, strict=True)):
            gallery.enroll(f"person {row % 60}", face[None], ["x" * int(rng.integers(1, 80))], photos=[crop])
        stored = [vector for (vector,) in gallery.file.rows("SELECT vector FROM embeddings ORDER BY id")]
        gone = rng.permutation(60)[:40].tolist()
        for person in gone:
            gallery.remove(f"person {person}")
        bytes_left = b"".join(file.read_bytes() for file in path.parent.iterdir())
        kept = [row for row in range(len(faces)) if row % 60 not in gone]
        assert gallery.size == len(kept)
    for row in kept:
        assert stored[row][200:240] in bytes_left
    for row in set(range(len(faces))) - set(kept):
        for trace in (stored[row], photos[row]):
            assert not any(trace[start : start + 16] in bytes_left for start in (0, len(trace) // 2, len(trace) - 16))


def test_a_deletion_that_another_reader_holds_up_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.1)
    with Gallery(path, MODEL) as gallery, Gallery(path, MODEL) as elsewhere:
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        stored = gallery.snapshot().vectors[0].tobytes()
        with elsewhere.file.reading():
            elsewhere.people()
            with pytest.raises(GalleryError, match=r"still in .*people.sqlite-wal, since another program is reading"):
                gallery.remove("Ada")
            assert gallery.people() == []
        assert gallery.purge() == []
        assert stored[:64] not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_removing_someone_unknown_names_those_it_knows(gallery: Gallery) -> None:
    with pytest.raises(GalleryError, match="no one called 'Bob', it is empty"):
        gallery.remove("Bob")
    gallery.enroll("Ada", vectors(1), ["a.jpg"])
    gallery.enroll("Grace", vectors(1), ["a.jpg"])
    with pytest.raises(GalleryError, match="no one called 'Bob', it knows Ada, Grace"):
        gallery.remove("Bob")


def test_export_holds_everything(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(2), ["a.jpg", "b.jpg"], [0.5, 0.9])
        exported = msgspec.json.decode(msgspec.json.encode(export_gallery(gallery)))
    assert exported["model"] == MODEL
    (person,) = exported["people"]
    assert person["name"] == "Ada"
    assert [(view["source"], view["quality"]) for view in person["embeddings"]] == [("a.jpg", 0.5), ("b.jpg", 0.9)]
    np.testing.assert_allclose([view["vector"] for view in person["embeddings"]], vectors(2))


def test_the_revision_changes_with_every_change_and_with_nothing_else(gallery: Gallery) -> None:
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
        "import sys, numpy as np; from pipeline.gallery.gallery import Gallery\n"
        f"with Gallery(sys.argv[1], {MODEL!r}) as g: g.enroll('Ada', np.eye(1, 128, dtype=np.float32), ['a.jpg'])"
    )
    with Gallery(path, MODEL) as gallery:
        before = gallery.revision
        subprocess.run([sys.executable, "-c", script, str(path)], check=True, cwd=Path(__file__).parents[3], timeout=60)
        assert gallery.revision != before
        assert gallery.snapshot().names == ("Ada",)


def test_a_gallery_of_another_model_is_refused_and_says_what_to_do(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
    with pytest.raises(GalleryError, match=f"made with model {MODEL}, not with ffff.*`trunkline gallery reenroll"):
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
        later.execute("PRAGMA user_version = 3")
    later.close()
    with pytest.raises(GalleryError, match="has format 3, this version reads formats 1 to 2"):
        Gallery(path, MODEL)


def test_a_damaged_embedding_is_an_error_and_not_a_face(path: Path, gallery: Gallery) -> None:
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


def test_only_its_owner_can_read_it(path: Path, gallery: Gallery) -> None:
    gallery.enroll("Ada", vectors(1), ["a.jpg"])
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_a_gallery_that_was_closed_says_so(path: Path) -> None:
    gallery = Gallery(path, MODEL)
    gallery.close()
    gallery.close()
    with pytest.raises(GalleryError, match="cannot be used"):
        gallery.people()


def test_a_view_that_is_there_is_not_added_again_but_its_photo_is(gallery: Gallery) -> None:
    assert gallery.enroll("Ada", vectors(2), ["a.jpg", "b.jpg"]) == 2
    assert gallery.enroll("Ada", vectors(3), ["a.jpg", "b.jpg", "c.jpg"], photos=[b"a", None, b"c"]) == 1
    assert gallery.enroll("Ada", np.tile(vectors(1, seed=1), (2, 1)), ["d.jpg", "e.jpg"]) == 1
    assert [(person.embeddings, person.photos) for person in gallery.people()] == [(4, 2)]
    assert [photo.jpeg for photo in gallery.photos()] == [b"a", None, b"c", None]


def test_two_people_may_look_alike(gallery: Gallery) -> None:
    gallery.enroll("Ada", vectors(1), ["a.jpg"])
    assert gallery.enroll("Grace", vectors(1), ["a.jpg"]) == 1


def test_no_photo_is_kept_unless_it_is_given(gallery: Gallery) -> None:
    gallery.enroll("Ada", vectors(1), ["a.jpg"])
    assert [person.photos for person in gallery.people()] == [0]
    assert export_gallery(gallery).people[0].embeddings[0].photo is None


def soon(seconds: float) -> str:
    return timestamp(time.time_ns() + round(seconds * 1e9))


def test_consent_and_expiry_are_kept_and_those_given_later_take_their_place(gallery: Gallery) -> None:
    gallery.enroll("Ada", vectors(1), ["a.jpg"], terms=Terms("signed", soon(100)))
    gallery.enroll("Ada", vectors(1, seed=1), ["b.jpg"])
    (ada,) = gallery.people()
    assert (ada.consent, ada.expired) == ("signed", False)
    later = soon(1000)
    gallery.enroll("Ada", vectors(1), ["a.jpg"], terms=Terms(expires_at=later))
    (ada,) = gallery.people()
    assert (ada.consent, ada.expires_at) == ("signed", later)
    exported = export_gallery(gallery).people[0]
    assert (exported.consent, exported.expires_at) == ("signed", later)


def test_who_has_expired_is_listed_but_no_longer_known_and_leaves_with_a_purge(path: Path, gallery: Gallery) -> None:
    gallery.enroll("Ada", vectors(2), ["a.jpg", "secret.jpg"], terms=Terms(expires_at=soon(0.3)))
    gallery.enroll("Grace", vectors(1, seed=1), ["g.jpg"], terms=Terms(expires_at=soon(100)))
    gallery.enroll("Bob", vectors(1, seed=2), ["b.jpg"])
    assert gallery.snapshot().names == ("Ada", "Ada", "Bob", "Grace")
    assert gallery.purge() == []
    time.sleep(0.35)
    assert [(person.name, person.expired) for person in gallery.people()] == [
        ("Ada", True),
        ("Bob", False),
        ("Grace", False),
    ]
    assert gallery.snapshot().names == ("Bob", "Grace")
    with pytest.raises(GalleryError, match=r"'Ada' expired at .* needs a new --expires"):
        gallery.enroll("Ada", vectors(1, seed=3), ["c.jpg"])
    assert gallery.purge() == ["Ada"]
    assert [person.name for person in gallery.people()] == ["Bob", "Grace"]
    assert b"secret.jpg" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_snapshot_can_be_asked_who_will_be_left(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(2), ["a.jpg", "b.jpg"], terms=Terms(expires_at=soon(100)))
        gallery.enroll("Bob", vectors(1, seed=2), ["b.jpg"])
        snapshot = gallery.snapshot()
    assert snapshot.at(soon(50)) is snapshot
    left = snapshot.at(soon(101))
    assert (left.names, dict(left.expires)) == (("Bob",), {})
    np.testing.assert_array_equal(left.vectors, vectors(1, seed=2))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2999-12-31", "3000-01-01T00:00:00.000Z", id="a day counts to its end"),
        pytest.param("2999-12-31T18:00:00Z", "2999-12-31T18:00:00.000Z", id="a moment"),
        pytest.param("2999-12-31T18:00:00+02:00", "2999-12-31T16:00:00.000Z", id="a moment elsewhere"),
    ],
)
def test_when_somebody_expires(text: str, moment: str) -> None:
    assert agreed(None, text) == Terms(None, moment)


@pytest.mark.parametrize(
    ("consent", "expires", "sentence"),
    [
        pytest.param(None, "soon", "expires must be a date such as .*got 'soon'", id="no date"),
        pytest.param(None, "2999-02-30", "expires must be a date", id="a day that is none"),
        pytest.param(None, "9999-12-31", "expires must be a date", id="a day with no end"),
        pytest.param(None, "2999-12-31T18:00:00", "with its time zone", id="a moment of who knows where"),
        pytest.param(None, "2020-01-01", "expires must lie in the future, got '2020-01-01'", id="a day gone by"),
        pytest.param("  ", None, "a consent note must have 1 to 1000 characters, got 0", id="an empty note"),
        pytest.param("x\x1b[2J", None, "a consent note must not have control characters", id="a terminal sequence"),
    ],
)
def test_terms_that_are_not_allowed(consent: str | None, expires: str | None, sentence: str) -> None:
    with pytest.raises(GalleryError, match=sentence):
        agreed(consent, expires)


def make_format_1(path: Path, with_table: str = "") -> None:
    old = sqlite3.connect(path)
    old.executescript(
        f"PRAGMA journal_mode = WAL; {FORMAT_1} {with_table} PRAGMA application_id = {0x54524B4C};"
        f"PRAGMA user_version = 1; INSERT INTO model VALUES ('{MODEL}');"
        "INSERT INTO people VALUES (7, 'Ada', '2026-01-02T03:04:05.678Z'), (9, 'Bob', '2026-01-02T03:04:05.678Z')"
    )
    rows = [(person, face.tobytes()) for person, face in zip((7, 9, 7), vectors(3), strict=True)]
    old.executemany("INSERT INTO embeddings VALUES (NULL, ?, ?, 'x.jpg', 0.5, '2026-01-02T03:04:05.678Z')", rows)
    old.commit()
    old.close()


@pytest.mark.parametrize("fingerprint", [MODEL, None])
def test_a_gallery_of_the_first_format_is_brought_up_to_date(path: Path, fingerprint: str | None) -> None:
    make_format_1(path)
    with Gallery(path, fingerprint) as gallery:
        ada, bob = gallery.people()
        assert (ada.name, ada.embeddings, ada.photos, ada.added_at) == ("Ada", 2, 0, "2026-01-02T03:04:05.678Z")
        assert (bob.consent, bob.expires_at, bob.expired) == (None, None, False)
        np.testing.assert_array_equal(gallery.snapshot().vectors, vectors(3)[[0, 2, 1]])
        gallery.enroll("Ada", vectors(1, seed=9), ["y.jpg"], photos=[b"jpeg"], terms=Terms("signed", soon(100)))
        assert gallery.remove("Bob") == 1


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    make_format_1(path, "CREATE TABLE requests (id INTEGER);")  # in its way
    with pytest.raises(GalleryError, match="table requests already exists"):
        Gallery(path, MODEL)
    with sqlite3.connect(path) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        assert old.execute("SELECT count(*) FROM embeddings").fetchone() == (3,)
        assert "crop" not in [row[1] for row in old.execute("PRAGMA table_info (embeddings)")]
    old.close()


def test_a_change_inside_another_is_undone_with_it(gallery: Gallery) -> None:
    with pytest.raises(RuntimeError), gallery.changing():
        gallery.enroll("Ada", vectors(1), ["a.jpg"])
        raise RuntimeError
    assert gallery.people() == []


def test_embeddings_of_another_model_take_the_place_of_those_there(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", vectors(3), ["a.jpg", "b.jpg", "c.jpg"], photos=[b"a", None, b"c"])
        stored = gallery.snapshot().vectors[1].tobytes()
        new = {
            photo.embedding: row for photo, row in zip(gallery.photos(), vectors(3, 5, 64), strict=True) if photo.jpeg
        }
        gallery.replace("ffff", {row: (2 * vector, 0.25) for row, vector in new.items()}, gallery.revision)
    with Gallery(path, "ffff") as gallery:
        np.testing.assert_allclose(gallery.snapshot().vectors, vectors(3, 5, 64)[[0, 2]], rtol=1e-6)
        views = export_gallery(gallery).people[0].embeddings
        assert [(view.source, view.quality, view.photo) for view in views] == [
            ("a.jpg", 0.25, b"a"),
            ("c.jpg", 0.25, b"c"),
        ]
        assert stored[:64] not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_embeddings_of_another_model_are_not_taken_when_the_gallery_was_changed_meanwhile(gallery: Gallery) -> None:
    gallery.enroll("Ada", vectors(1), ["a.jpg"], photos=[b"a"])
    revision = gallery.revision
    gallery.enroll("Bob", vectors(1), ["a.jpg"])
    with pytest.raises(GalleryError, match="was changed meanwhile, nothing was done"):
        gallery.replace("ffff", {1: (vectors(1, 5)[0], 0.5)}, revision)
    assert gallery.model == MODEL
    assert gallery.snapshot().names == ("Ada", "Bob")


def test_whoever_has_it_open_does_not_take_another_models_embeddings_for_his(path: Path) -> None:
    with Gallery(path, MODEL) as running, Gallery(path) as gallery:
        running.enroll("Ada", vectors(1), ["a.jpg"], photos=[b"a"])
        gallery.replace("ffff", {1: (vectors(1, 5)[0], 0.5)}, gallery.revision)
        with pytest.raises(GalleryError, match="was enrolled again with model ffff"):
            running.snapshot()


def test_several_threads_may_enrol_at_the_same_time(path: Path) -> None:
    def enrol(person: int) -> None:
        for view in range(5):
            gallery.enroll(f"person {person}", vectors(1, seed=10 * person + view), ["x.jpg"])

    with Gallery(path, MODEL) as gallery:
        threads = [threading.Thread(target=enrol, args=(person,)) for person in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [person.embeddings for person in gallery.people()] == [5] * 4
