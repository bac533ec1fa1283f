"""A gallery that goes to another machine as JSON."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engines.errors import DamagedGallery, GalleryError
from pipeline.gallery.export import Export, export_gallery, import_people, read_export, salvage
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.views import encode_photo

MODEL, OTHER = "0123456789abcdef", "fedcba9876543210"
LATER = "2999-01-01T00:00:00.000Z"


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 128)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Of Ada, who has a photo, a note and an expiry, and Grace, who has none of them."""
    photo = encode_photo(np.full((112, 112, 3), 128, np.uint8))
    with Gallery(tmp_path / "first.sqlite", MODEL) as gallery:
        gallery.enroll("Ada", vectors(2), ["a.jpg", "b.jpg"], [0.5, 0.9], [photo, None], Terms("signed", LATER))
        gallery.enroll("Grace", vectors(1, 1), ["g.jpg"])
        written = msgspec.json.encode(export_gallery(gallery))
    (tmp_path / "people.json").write_bytes(written)
    return tmp_path / "people.json"


def held(path: Path) -> Export:
    with Gallery(path) as gallery:
        return export_gallery(gallery)


def test_what_was_exported_is_the_same_on_another_machine(export: Path, tmp_path: Path) -> None:
    imported = import_people(tmp_path / "second.sqlite", read_export(export))
    assert (imported.people, imported.embeddings, imported.replaced) == (["Ada", "Grace"], 3, [])
    assert held(tmp_path / "second.sqlite") == held(tmp_path / "first.sqlite")
    with Gallery(tmp_path / "first.sqlite") as first, Gallery(tmp_path / "second.sqlite", MODEL) as second:
        np.testing.assert_array_equal(second.snapshot().vectors, first.snapshot().vectors)  # to the last bit


def test_people_join_those_who_are_there(export: Path, tmp_path: Path) -> None:
    with Gallery(tmp_path / "second.sqlite", MODEL) as gallery:
        gallery.enroll("Bob", vectors(1, 2), ["b.jpg"])
        revision = gallery.revision
        import_people(gallery.path, read_export(export))
        assert [person.name for person in gallery.people()] == ["Ada", "Bob", "Grace"]
        assert gallery.revision != revision, "runs under way would not look again"


def test_somebody_of_that_name_is_not_overwritten_unasked(export: Path, tmp_path: Path) -> None:
    path = tmp_path / "second.sqlite"
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Grace", vectors(1, 5), ["another Grace.jpg"])
        before = export_gallery(gallery)
        with pytest.raises(GalleryError, match="has Grace already: nobody was imported; with --replace"):
            import_people(path, read_export(export))
        assert export_gallery(gallery) == before
        assert import_people(path, read_export(export), replace=True).replaced == ["Grace"]
    assert held(path) == held(tmp_path / "first.sqlite")
    assert b"another Grace.jpg" not in path.read_bytes()


def test_embeddings_of_another_model_are_refused(export: Path, tmp_path: Path) -> None:
    path = tmp_path / "second.sqlite"
    with Gallery(path, OTHER) as gallery:
        gallery.enroll("Bob", vectors(1), ["b.jpg"])
    with pytest.raises(GalleryError, match=f"made with model {OTHER}, and the export with {MODEL}: import it"):
        import_people(path, read_export(export))
    assert [person.name for person in held(path).people] == ["Bob"]


def test_a_gallery_in_which_nobody_is_takes_any_model(export: Path, tmp_path: Path) -> None:
    Gallery(tmp_path / "second.sqlite", OTHER).close()
    import_people(tmp_path / "second.sqlite", read_export(export))
    assert held(tmp_path / "second.sqlite").model == MODEL


def test_who_has_expired_comes_along_and_is_not_matched(export: Path, tmp_path: Path) -> None:
    export.write_bytes(export.read_bytes().replace(LATER.encode(), b"2020-01-01T01:00:00+01:00"))
    import_people(tmp_path / "second.sqlite", read_export(export))
    with Gallery(tmp_path / "second.sqlite") as gallery:
        assert [(person.name, person.expired) for person in gallery.people()] == [("Ada", True), ("Grace", False)]
        assert gallery.snapshot().names == ("Grace",)
        assert gallery.people()[0].expires_at == "2020-01-01T00:00:00.000Z"


def changed(export: Path, **person: Any) -> None:
    """Write other values of the first person into an export."""
    values = msgspec.json.decode(export.read_bytes())
    values["people"][0] |= person
    export.write_bytes(msgspec.json.encode(values))


def view(**values: Any) -> dict[str, Any]:
    vector = vectors(1)[0].tolist()
    return {"source": "a", "quality": 1, "added_at": LATER, "vector": vector, "photo": None} | values


@pytest.mark.parametrize(
    ("person", "sentence"),
    [
        pytest.param({"name": ""}, "a name must have 1 to 100 characters", id="no name"),
        pytest.param({"name": "Grace"}, "Grace must be in it once", id="a name twice"),
        pytest.param({"name": 7}, r"Expected `str`, got `int` - at `\$.people\[0\].name`", id="another type"),
        pytest.param({"embeddings": []}, "length >= 1", id="a person without views"),
        pytest.param({"expires_at": "soon"}, "'Ada' has 'soon', which is not a moment", id="no moment"),
        pytest.param({"added_at": "2026-01-01T00:00:00"}, "which is not a moment with its time zone", id="no zone"),
        pytest.param({"consent": "a\nb"}, "a consent note must not have control characters", id="a note of two lines"),
        pytest.param({"embeddings": [view(vector=[3.0, 4.0])]}, "a vector of 'Ada' has not unit length", id="too long"),
        pytest.param({"embeddings": [view(vector=[0.0] * 128)]}, "has not unit length", id="zero"),
        pytest.param({"embeddings": [view(vector=[0.6, 0.8])]}, "its vectors differ in length", id="two lengths"),
        pytest.param({"embeddings": [view(quality=2)]}, "<= 1.0", id="a quality beyond 1"),
    ],
)
def test_what_no_gallery_holds_is_refused(export: Path, person: dict[str, Any], sentence: str) -> None:
    changed(export, **person)
    with pytest.raises(GalleryError, match=sentence):
        read_export(export)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"not JSON", "is not one of a gallery"), (b"[1, 2]", "is not one of a gallery"), (b"\xff", "is not one of")],
)
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(GalleryError, match=sentence):
        read_export(tmp_path / "file")


def test_an_export_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"people.json: cannot be read: No such file or directory"):
        read_export(tmp_path / "people.json")


def test_a_vector_of_another_length_than_those_there_is_refused(export: Path, tmp_path: Path) -> None:
    with Gallery(tmp_path / "second.sqlite", MODEL) as gallery:
        gallery.enroll("Bob", vectors(1)[:, :64], ["b.jpg"])
    with pytest.raises(GalleryError, match="embeddings must have 64 numbers, got 128"):
        import_people(tmp_path / "second.sqlite", read_export(export))
    assert [person.name for person in held(tmp_path / "second.sqlite").people] == ["Bob"]


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    """Forty people with a photo each: several pages of people, many of embeddings."""
    photo = encode_photo(np.full((112, 112, 3), 128, np.uint8))
    path = tmp_path / "crowd.sqlite"
    with Gallery(path, MODEL) as gallery:
        for number in range(40):
            gallery.enroll(f"person {number:02}", vectors(2, number), ["a.jpg", "b.jpg"], photos=[photo, None])
    return path


def page_size(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[16:18], "big")  # the SQLite file format's header


@pytest.mark.parametrize("seed", range(6))
def test_of_a_damaged_gallery_all_is_saved_that_can_be_read(crowd: Path, seed: int) -> None:
    whole = held(crowd)
    content, size = bytearray(crowd.read_bytes()), page_size(crowd)
    pages = len(content) // size
    hit = np.random.default_rng(seed).choice(np.arange(pages // 2, pages), 3, replace=False)  # no table begins there
    for page in hit:
        content[page * size : (page + 1) * size] = b"\xff" * size
    crowd.write_bytes(content)
    with pytest.raises(
        DamagedGallery, match="is damaged: put a copy of it in its place, or save what can be read with"
    ):
        held(crowd)
    saved, lost = salvage(crowd)
    views = {(person.name, view.source): view for person in whole.people for view in person.embeddings}
    kept = [(person.name, view) for person in saved.people for view in person.embeddings]
    assert 0 < lost < len(views)
    assert all(views[name, view.source] == view for name, view in kept), "nothing is made up"
    assert len(kept) > len(views) / 3


def test_of_a_gallery_that_is_cut_off_the_beginning_is_saved(crowd: Path) -> None:
    whole = {(person.name, view.source): view for person in held(crowd).people for view in person.embeddings}
    content = crowd.read_bytes()
    crowd.write_bytes(content[: len(content) * 2 // 3 + 100])
    saved, lost = salvage(crowd)
    kept = [(person.name, view) for person in saved.people for view in person.embeddings]
    assert all(whole[name, view.source] == view for name, view in kept)
    assert len(kept) > len(whole) / 3
    assert lost > 0
    assert [path.name for path in crowd.parent.iterdir()] == [crowd.name]


def test_a_vector_that_is_none_is_left_out_of_what_is_saved(crowd: Path) -> None:
    with sqlite3.connect(crowd) as db:
        db.execute("UPDATE embeddings SET vector = x'0102' WHERE source = 'b.jpg' AND person = 1")
        db.execute("UPDATE embeddings SET vector = zeroblob(512) WHERE source = 'a.jpg' AND person = 2")
    db.close()
    saved, lost = salvage(crowd)
    assert lost == 2 and sum(len(person.embeddings) for person in saved.people) == 78


def test_where_nothing_can_be_read_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(GalleryError, match="is damaged, and nothing of it can be read"):
        salvage(tmp_path / "x.sqlite")
