"""People: who is known, who is not yet, what is known of them, and forgetting it."""

import asyncio
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import IO, Annotated, Any, Final

import anyio.to_thread
import msgspec
import numpy as np
from litestar import delete, get, patch, post
from litestar.datastructures import UploadFile
from litestar.params import FromPath, FromQuery, JSONBody, MultipartBody, QueryParameter
from litestar.response import Stream

from engines.errors import RequestError, StoreError
from pipeline.frames.clock import timestamp
from pipeline.gallery import Gallery, Person
from pipeline.gallery.export import export_gallery
from pipeline.gallery.gallery import agreed, clean_name
from pipeline.gallery.people import merge, person, remove_views, rename
from pipeline.gallery.views import View, encode_photo
from pipeline.service.web.faces import FaceFound
from pipeline.service.web.gate import TheSite, needs
from pipeline.service.web.site import Site
from pipeline.store import EventQuery, EventStore, StoredEvent, boxes_of

AGAIN_S: Final = 5.0  # events of a person who is forgotten may still be on their way for so long
MAX_LOOKED: Final = 500  # unknown faces that are grouped, the latest
MAX_ROWS: Final = 5000  # events that are looked through for them
MAX_EVENTS: Final = 200  # whose views are enrolled at once
CHUNK: Final = 2**18

Text = Annotated[str, msgspec.Meta(max_length=1000)]


class NewPerson(msgspec.Struct, forbid_unknown_fields=True):
    """Unknown faces that are given a name."""

    name: Text
    event_ids: Annotated[list[int], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]
    consent: Text | None = None
    expires_at: Text | None = None
    keep_photos: bool = True


class PersonChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be different of a person; ``expires_at`` null: never."""

    rename: Text | msgspec.UnsetType = msgspec.UNSET
    merge_into: Text | msgspec.UnsetType = msgspec.UNSET
    consent: Text | msgspec.UnsetType = msgspec.UNSET
    expires_at: Text | msgspec.UnsetType | None = msgspec.UNSET


class UnknownGroup(msgspec.Struct):
    """Unknown faces that are likely of one person."""

    group: int  # the number of the event that shows it best
    count: int
    last_at: str
    streams: list[str]
    event_ids: list[int]  # whose views can be enrolled, the best first, MAX_EVENTS at most; of all where none can
    flaw: str | None  # why none can: what is wrong with the best one, as the rest of a sentence about a face


class Forgotten(msgspec.Struct):
    """What was forgotten of a person."""

    name: str
    embeddings: int
    events: int


@get("/api/people", opt=needs("viewer"), sync_to_thread=True)
def people(site: TheSite) -> list[Person]:
    """Return all people of the gallery."""
    return site.gallery().people()


@get("/api/people/unknown", opt=needs("admin"), sync_to_thread=True)
def unknown(site: TheSite, days: Annotated[float, QueryParameter(gt=0.0, le=365.0)] = 3.0) -> list[UnknownGroup]:
    """Return the unknown faces of the last days whose pictures were kept, those of one person together.

    Groups of which no view is good enough to be enrolled come last.
    """
    since = datetime.now(UTC) - timedelta(days=days)
    seen, views = [], []
    for event, jpeg in _unknown_faces(site.store(), round(since.timestamp() * 1e9)):
        view = site.faces.view(event.id, jpeg)
        if view is not None:
            seen.append(event)
            views.append(view)
    groups = site.faces.groups(views, _gallery_or_none(site))
    return sorted((_group([seen[row] for row in rows], [views[row] for row in rows]) for rows in groups), key=_order)


def _order(group: UnknownGroup) -> tuple[bool, int, int]:
    return group.flaw is not None, -group.count, -group.group


def _group(events: list[StoredEvent], views: list[View]) -> UnknownGroup:
    ranked = sorted(range(len(views)), key=lambda row: -views[row].quality)
    flaws = {row: views[row].flaw() for row in ranked}
    good = [row for row in ranked if flaws[row] is None]
    shown = [events[row].id for row in (good or ranked)[:MAX_EVENTS]]
    return UnknownGroup(
        shown[0],
        len(events),
        timestamp(max(event.at_ns for event in events)),
        sorted({event.stream for event in events}),
        shown,
        None if good else flaws[ranked[0]],
    )


def _unknown_faces(store: EventStore, since_ns: int) -> Iterator[tuple[StoredEvent, bytes]]:
    """The latest event of each face track without a name that has a picture, the latest first."""
    query = EventQuery(events=("new", "ended"), kinds=("face",), since_ns=since_ns)
    known: set[tuple[str, int | None, str | None]] = set()
    found = 0
    for looked, event in enumerate(store.matching(query)):
        if looked >= MAX_ROWS or found >= MAX_LOOKED:
            return
        track = event.stream, event.track, msgspec.json.decode(event.body).get("first_seen")
        if track in known:
            continue
        known.add(track)
        jpeg = store.snapshot(event.id) if event.person is None and event.has_snapshot else None
        if jpeg is not None:
            found += 1
            yield event, jpeg


def _gallery_or_none(site: Site) -> Gallery | None:
    try:
        gallery = site.gallery()
    except RequestError:  # there is none yet: nobody is known
        return None
    site.faces.check(gallery)
    return gallery


@post("/api/people", opt=needs("admin"), sync_to_thread=True)
def name_people(data: JSONBody[NewPerson], site: TheSite) -> Person:
    """Enrol the good views of unknown faces under a name, new or known; a run knows them at once."""
    name, terms, store = clean_name(data.name), agreed(data.consent, data.expires_at), site.store()
    views, flaw = [], "show no face"
    for number in dict.fromkeys(data.event_ids):
        jpeg = store.snapshot(number)
        view = None if jpeg is None else site.faces.view(number, jpeg)
        bad = None if view is None else view.flaw()
        if view is not None and bad is None:
            views.append((number, view))
        flaw = f"show a face that {bad}" if bad is not None else flaw
    if not views:
        raise RequestError(400, f"{name!r} was not enrolled: the pictures of these events {flaw}")
    gallery = site.gallery(create=True)
    gallery.enroll(
        name,
        np.stack([view.embedding for _, view in views]),
        [_source(number) for number, _ in views],
        [view.quality for _, view in views],
        [encode_photo(view.crop) if data.keep_photos else None for _, view in views],
        terms,
    )
    store.set_person([number for number, _ in views], name)
    return person(gallery, name)


def _source(number: int) -> str:
    return f"event {number}"


@patch("/api/people/{name:str}", opt=needs("admin"), sync_to_thread=True)
def change_person(name: FromPath[str], data: JSONBody[PersonChange], site: TheSite) -> Person:
    """Rename a person, merge them into another, or set consent and expiry."""
    gallery = site.gallery()
    now = _there(gallery, name)
    if data.merge_into is not msgspec.UNSET:
        if data.rename is not msgspec.UNSET:
            raise RequestError(400, "rename and merge_into cannot both be there")
        merge(gallery, name, data.merge_into)
        return _renamed(site, gallery, name, data.merge_into)
    if data.consent is not msgspec.UNSET or data.expires_at is not msgspec.UNSET:
        consent = None if data.consent is msgspec.UNSET else data.consent
        kept = data.expires_at is msgspec.UNSET
        terms = agreed(consent, None if data.expires_at is msgspec.UNSET else data.expires_at)
        gallery.expire(name, replace(terms, expires_at=now.expires_at) if kept else terms)
    if data.rename is not msgspec.UNSET:
        return _renamed(site, gallery, name, rename(gallery, name, data.rename))
    return person(gallery, name)


def _renamed(site: Site, gallery: Gallery, name: str, to: str) -> Person:
    store = _store_or_none(site)
    if store is not None and to != name:
        store.rename_person(name, to)
    return person(gallery, to)


@delete("/api/people/{name:str}", opt=needs("admin"), status_code=200)
async def forget_person(name: FromPath[str], site: TheSite, clips: FromQuery[bool] = False) -> Forgotten:
    """Forget a person: gallery, pictures, the name in all events, and with ``clips`` the clips of those."""
    gone = await anyio.to_thread.run_sync(_forget, site, name, clips)
    site.later(AGAIN_S, lambda: _forget_events(site, name, clips, again=True))
    return gone


def _forget(site: Site, name: str, clips: bool) -> Forgotten:
    gallery = site.gallery()
    _there(gallery, name)
    embeddings = gallery.remove(name)
    return Forgotten(name, embeddings, _forget_events(site, name, clips))


def _forget_events(site: Site, name: str, clips: bool, again: bool = False) -> int:
    store = _store_or_none(site)
    if store is None:
        return 0
    site.faces.forget(store.showing(name))
    gone = store.forget_person(name, clips)
    if again:
        store.scrub(name)
    return gone


@delete("/api/people/{name:str}/views/{number:int}", opt=needs("admin"), status_code=200, sync_to_thread=True)
def take_back(name: FromPath[str], number: FromPath[int], site: TheSite) -> Person | None:
    """Say that an event does not show this person: its view, if it was enrolled, is taken back, and so is the name.

    Also where an event bears the name of somebody who is in the gallery no more.
    """
    gallery, store = site.gallery(), site.store()
    known = any(each.name == name for each in gallery.people())
    if known:
        store.get(number)
        remove_views(gallery, name, [_source(number)])
    elif not _bears(store, number, name):
        raise _nobody(name)
    store.set_person([number], None)
    return person(gallery, name) if known else None


def _bears(store: EventStore, number: int, name: str) -> bool:
    with suppress(StoreError):
        return store.get(number).person == name
    return False


@get("/api/people/{name:str}/export.zip", opt=needs("admin"))
async def export_person(name: FromPath[str], site: TheSite) -> Stream:
    """Return all that is known of a person: photos, embeddings, events, pictures and clips, as a ZIP file."""
    file = await anyio.to_thread.run_sync(_export, site, name)
    headers = {"content-disposition": 'attachment; filename="person.zip"'}
    return Stream(_read(file), media_type="application/zip", headers=headers)


def _export(site: Site, name: str) -> IO[bytes]:
    gallery, store = site.gallery(), _store_or_none(site)
    _there(gallery, name)
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by whoever reads it to its end
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for known in export_gallery(gallery, name).people:
            archive.writestr("person.json", msgspec.json.format(msgspec.json.encode(known)))
            for row, view in enumerate(known.embeddings, 1):
                if view.photo is not None:
                    archive.writestr(f"photos/{row}.jpg", view.photo)
        if store is not None:
            _export_events(archive, store, name)
    file.seek(0)
    return file


def _export_events(archive: zipfile.ZipFile, store: EventStore, name: str) -> None:
    lines: list[bytes] = []
    clips: dict[str, Any] = {}
    for event in map(store.get, store.showing(name)):
        lines.append(bytes(event.body) + b"\n")
        jpeg = store.snapshot(event.id) if event.has_snapshot else None
        if jpeg is not None:
            archive.writestr(f"snapshots/{event.id}.jpg", jpeg)
        file = store.clip_file(event)
        if file is not None and file.is_file():
            clips |= {each.name: each for each in (file, boxes_of(file)) if each.is_file()}
    archive.writestr("events.jsonl", b"".join(lines))
    for clip, file in clips.items():
        archive.write(file, f"clips/{clip}")


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
    finally:
        file.close()


@post("/api/who", opt=needs("admin"), status_code=200)
async def who(data: MultipartBody[dict[str, UploadFile]], site: TheSite) -> list[FaceFound]:
    """Return the faces on a photo, sent as the form's part ``photo``, and who they are."""
    photo = data.get("photo")
    if photo is None or len(data) != 1:
        raise RequestError(400, "the form must have one part, photo")
    content = await photo.read()
    return await anyio.to_thread.run_sync(lambda: site.faces.who(content, _gallery_or_none(site)))


def _there(gallery: Gallery, name: str) -> Person:
    for each in gallery.people():
        if each.name == name:
            return each
    raise _nobody(name)


def _nobody(name: str) -> RequestError:
    return RequestError(404, f"there is no one called {name!r}")


def _store_or_none(site: Site) -> EventStore | None:
    try:
        return site.store()
    except (RequestError, StoreError):  # there is none yet: nothing was kept
        return None


ROUTES = (people, unknown, name_people, change_person, forget_person, take_back, export_person, who)
