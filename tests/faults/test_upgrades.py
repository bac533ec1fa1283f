"""What an earlier version left on a disk opens in this one, and what a later one left is refused with a sentence.

``old`` was written by commit 2a60f4c, by ``made_old_files.py``. The log of open events is not here: it is memory of one
run and ends with it.
"""

import gzip
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.errors import ConfigError, ModelError, StoreError, TrunklineError
from engines.spec import ModelSpec, load_model
from pipeline.database import FileKind, SqliteFile
from pipeline.gallery.export import import_people, read_export
from pipeline.gallery.file import GALLERY
from pipeline.gallery.gallery import Gallery
from pipeline.service.accounts import ACCOUNTS, Accounts
from pipeline.settings.load import parse
from pipeline.sinks.webhook.spool import Spool
from pipeline.store import EventQuery, EventStore
from pipeline.store.events import STORE
from tests.faults.made_old_files import BEGAN_NS, PASSWORD, PEOPLE, events, views

OLD = Path(__file__).parent / "old"
VARIABLES = ("DOOR_PASSWORD", "YARD_PASSWORD", "GATE_PASSWORD", "VARIABLE")
RENAMED = {"rate": "fps"}  # since then: another rename must be told, too


def unpacked(name: str, folder: Path) -> Path:
    """A copy of an old SQLite file, to be changed."""
    file = folder / name
    file.write_bytes(gzip.decompress((OLD / f"{name}.gz").read_bytes()))
    return file


def written_later(file: Path, formats: int) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {formats}")


def test_an_old_event_store_opens_and_goes_on(tmp_path: Path) -> None:
    file = unpacked("events.sqlite", tmp_path)
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,), "it must be one that has to be brought up to date"
    with EventStore(tmp_path) as store:
        found = store.page().events
        assert [bytes(each.body) for each in found] == [each.body for each in reversed(events())]
        assert [each.at_ns for each in found][-1] == BEGAN_NS
        assert store.snapshot(found[3].id) == b"\xff\xd8 a picture"
        assert found[2].clip == "door.mp4"
        assert [each.track for each in store.page(EventQuery(person="Ada")).events] == [3]
        (number,) = store.add(events()[:1])
        assert number == 6
    with EventStore(tmp_path) as store:
        assert len(store.page().events) == 6


def test_an_old_gallery_opens_and_goes_on(tmp_path: Path) -> None:
    file, model = unpacked("people.sqlite", tmp_path), load_model(OLD / "model")
    with Gallery(file, model.fingerprint) as gallery:
        assert {person.name: person.consent for person in gallery.people()} == PEOPLE
        rows = gallery.file.rows("SELECT vector FROM embeddings JOIN people ON person = people.id WHERE name = 'Ada'")
        held = np.stack([np.frombuffer(row[0], np.float32) for row in rows])
        assert np.abs(held @ views("Ada").T).max(axis=1) == pytest.approx(1.0, abs=1e-3)
        gallery.enroll("New", views("New one"), ["a", "b"])
        assert len(gallery.people()) == 3


def test_an_old_export_is_imported(tmp_path: Path) -> None:
    imported = import_people(tmp_path / "people.sqlite", read_export(OLD / "people.json"))
    assert sorted(imported.people) == sorted(PEOPLE) and imported.embeddings == 4


def test_old_accounts_still_let_in(tmp_path: Path) -> None:
    accounts = Accounts(unpacked("acc.sqlite", tmp_path))
    _, who = accounts.login("admin", PASSWORD, None, "127.0.0.1")
    assert (who.name, who.role) == ("admin", "admin")
    accounts.close()


def test_a_delivery_that_an_earlier_version_owes_is_made(tmp_path: Path) -> None:
    shutil.copy(OLD / "0000000000000001.delivery", tmp_path)
    spool = Spool(tmp_path, 10, 10**6)
    found = spool.first()
    spool.close()
    assert found is not None and found[1].id == "evt_1" and found[1].body.content == b"{}"


@pytest.mark.parametrize("file", sorted((OLD / "configs").glob("*.toml")), ids=lambda file: file.stem)
def test_an_old_configuration_is_allowed_once_keys_have_the_names_that_its_refusal_tells(file: Path) -> None:
    text, environment = file.read_text(), dict.fromkeys(VARIABLES, "x")
    for old, new in RENAMED.items():
        if re.search(rf"^{old} ", text, re.MULTILINE):
            sentence = rf"inference\.{old} has a new name: it is inference\.{new} now, and means the same"
            with pytest.raises(ConfigError, match=sentence):
                parse(text, file, environment)
            text = re.sub(rf"^{old} ", f"{new} ", text, flags=re.MULTILINE)
    assert parse(text, file, environment).streams


def test_old_models_are_read() -> None:
    model = load_model(OLD / "model")
    assert model.spec.objects == ("person", "dog") and model.spec.face is not None
    released = msgspec.json.decode((OLD / "spec_of_s.json").read_bytes(), type=ModelSpec)
    assert released.name == "s" and released.int8 is not None


Opens = Callable[[Path], object]
KINDS = [
    pytest.param("events.sqlite", STORE, lambda file: EventStore(file.parent), id="event store"),
    pytest.param("people.sqlite", GALLERY, lambda file: Gallery(file), id="gallery"),
    pytest.param("acc.sqlite", ACCOUNTS, lambda file: Accounts(file), id="accounts"),
]


@pytest.mark.parametrize(("name", "kind", "opens"), KINDS)
def test_a_file_of_a_later_version_is_refused_and_stays_as_it_was(
    name: str, kind: FileKind, opens: Opens, tmp_path: Path
) -> None:
    file = unpacked(name, tmp_path)
    later = len(kind.formats) + 1
    written_later(file, later)
    content = file.read_bytes()
    with pytest.raises(TrunklineError) as caught:
        opens(file)
    said = str(caught.value)
    assert said == f"{kind.word} {file}: has format {later}, this version reads formats 1 to {len(kind.formats)}"
    assert file.read_bytes() == content


def test_the_earlier_version_refuses_a_store_that_was_opened_with_this_one(tmp_path: Path) -> None:
    file = unpacked("events.sqlite", tmp_path)
    EventStore(tmp_path).close()
    with pytest.raises(StoreError, match="has format 3, this version reads formats 1 to 2"):
        SqliteFile(file, replace(STORE, formats=STORE.formats[:2]), create=False)


def test_a_model_of_a_later_version_is_refused(tmp_path: Path) -> None:
    shutil.copytree(OLD / "model", tmp_path, dirs_exist_ok=True)
    spec = msgspec.json.decode((tmp_path / "spec.json").read_bytes())
    # What is new comes before the number, and is not known either: the number is what is told.
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode({"new": 1} | spec | {"format": 2, "frame": "elsewhere"}))
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == f"model {tmp_path}: spec.json has format 2, this version reads format 1"


def test_a_key_of_a_later_version_is_refused_by_its_name() -> None:
    text = '[[streams]]\nname = "door"\nsource = "x"\n[later]\nkey = 1\n'
    with pytest.raises(ConfigError, match=r"site\.toml: later is not a key of this configuration"):
        parse(text, "site.toml", {})
