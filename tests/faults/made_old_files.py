"""What a version leaves on a disk, to be read by later ones.

``tests/faults/old`` was written by commit 2a60f4c: unpack a commit (``git archive COMMIT | tar x -C DIR``) and run
``PYTHONPATH=DIR python tests/faults/made_old_files.py OUT`` in DIR. It uses what that commit has.
"""

import gzip
import sys
from pathlib import Path

import msgspec
import numpy as np

from pipeline.gallery.export import export_gallery
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.service.accounts import Accounts
from pipeline.sinks.webhook.body import Body
from pipeline.sinks.webhook.spool import Delivery, Spool
from pipeline.store import EventStore, NewEvent
from tests.pipeline.made_runs import write_model

PEOPLE = {"Ada": "said so on paper", "Zoë": None}
PASSWORD = "correct horse"
BEGAN_NS = 1_767_225_600_000_000_000  # 2026-01-01


def events() -> list[NewEvent]:
    """Five, of which one has a snapshot and one a name."""
    made = []
    for number in range(5):
        person = "Ada" if number == 3 else None
        body = b'{"type":"event","stream":"door","seq":%d,"event":"new","kind":"object","track":%d}' % (number, number)
        made.append(
            NewEvent(
                at_ns=BEGAN_NS + number * 10**9,
                stream="door",
                event="new",
                kind="object",
                track=number,
                label="person",
                person=person,
                place=None,
                score=0.5 + number / 10,
                body=body,
                snapshot=b"\xff\xd8 a picture" if number == 1 else None,
            )
        )
    return made


def views(person: str) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Two unit embeddings (2, 128) of a person."""
    made = np.random.default_rng(len(person)).normal(size=(2, 128)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def write_all(folder: Path) -> None:
    """A model folder, a gallery and its export, an event store, accounts and a delivery that was not made."""
    model = write_model(folder / "model")
    gallery_file, store_file, accounts_file = folder / "people.sqlite", folder / "events.sqlite", folder / "acc.sqlite"
    with Gallery(gallery_file, model.fingerprint) as gallery:
        for name, consent in PEOPLE.items():
            gallery.enroll(name, views(name), ["a.jpg", "b.jpg"], terms=Terms(consent))
        (folder / "people.json").write_bytes(msgspec.json.encode(export_gallery(gallery)))
        gallery.file.empty_log()
    with EventStore(folder, create=True) as store:
        numbers = store.add(events())
        store.attach_clip(numbers[2], "door.mp4")
        store.file.empty_log()
    accounts = Accounts(accounts_file)
    accounts.login("admin", str(accounts.first_password()), PASSWORD, "127.0.0.1")
    accounts.close()
    spool = Spool(folder / "spool", 10, 10**6)
    spool.put(Delivery("evt_1", BEGAN_NS, Body("application/json", b"{}")))
    spool.close()
    for file in (gallery_file, store_file, accounts_file):
        file.with_suffix(".sqlite.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        for left in folder.glob(f"{file.name}*"):
            if left.suffix != ".gz":
                left.unlink()


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
