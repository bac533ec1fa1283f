"""What happened: events of the store, their pictures and clips."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import msgspec
from litestar import Request, Response, delete, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation
from litestar.response import Stream

from engines.errors import RequestError
from pipeline.frames.clock import timestamp
from pipeline.service.auth import permit
from pipeline.service.web.gate import TheReader, TheSite, needs
from pipeline.service.web.site import Site
from pipeline.store import EventQuery, StoredEvent, boxes_of
from pipeline.wire.links import PATH

CHUNK: Final = 2**18  # bytes
DAY_S: Final = 86_400
MAX_STEPS: Final = 1000  # of one answer with counts
_BEGAN: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d{3})Z_", re.ASCII)
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)

Several = Annotated[list[str] | None, QueryParameter(description="any of these; repeatable")]


class EventOut(msgspec.Struct):
    """An event; ``body`` is the message as it was published, without its picture."""

    id: int
    at: str
    stream: str
    event: str
    kind: str
    track: int | None
    label: str | None
    person: str | None
    place: str | None
    score: float | None
    has_snapshot: bool
    clip: bool
    body: Any


class EventsOut(msgspec.Struct):
    """Events, the latest first, and where the next page goes on."""

    events: list[EventOut]
    next: str | None


def event_out(event: StoredEvent) -> EventOut:
    """Return an event as the API shows it."""
    return EventOut(
        event.id,
        timestamp(event.at_ns),
        event.stream,
        event.event,
        event.kind,
        event.track,
        event.label,
        event.person,
        event.place,
        event.score,
        event.has_snapshot,
        event.clip is not None,
        msgspec.json.decode(event.body),
    )


class EventCountOut(msgspec.Struct):
    """How many events there were with a label, from a moment on."""

    at: str
    label: str | None
    count: int


class EventCountsOut(msgspec.Struct):
    """Counts of events in steps of time, the oldest first; steps without events are left out."""

    step_s: int
    counts: list[EventCountOut]


def wanted_events(
    reader: TheReader,
    stream: Several = None,
    event: Several = None,
    kind: Several = None,
    label: FromQuery[str | None] = None,
    person: FromQuery[str | None] = None,
    place: FromQuery[str | None] = None,
    track: FromQuery[int | None] = None,
    min_score: FromQuery[float | None] = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
) -> EventQuery | None:
    """Return what a request looks for, in the streams that the reader may see; None: there are none."""
    for name in stream or ():
        permit(reader, "viewer", name)
    streams = tuple(stream or (() if reader.role == "admin" else reader.streams))
    if not streams and reader.role != "admin":
        return None
    return EventQuery(
        streams=streams,
        events=tuple(event or ()),
        kinds=tuple(kind or ()),
        label=label,
        person=person,
        place=place,
        track=track,
        min_score=min_score,
        since_ns=None if since is None else moment_ns("since", since),
        until_ns=None if until is None else moment_ns("until", until),
    )


WANTED: Final = {"wanted": Provide(wanted_events, sync_to_thread=False)}
Wanted = NamedDependency[SkipValidation[EventQuery | None]]


@get("/api/events", opt=needs("viewer"), dependencies=WANTED, sync_to_thread=True)
def events(
    site: TheSite,
    wanted: Wanted,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50,
    cursor: FromQuery[str | None] = None,
) -> EventsOut:
    """Return what happened in the streams that the reader may see, the latest first."""
    if wanted is None:
        return EventsOut([], None)
    page = site.store().page(wanted, limit, cursor)
    return EventsOut([event_out(each) for each in page.events], page.next)


@get("/api/events/counts", opt=needs("viewer"), dependencies=WANTED, sync_to_thread=True)
def counts(
    site: TheSite, wanted: Wanted, step_s: Annotated[int, QueryParameter(ge=1, le=DAY_S)] = 900
) -> EventCountsOut:
    """Return how many events there were in each step of the time asked for, by label."""
    if wanted is None:
        return EventCountsOut(step_s, [])
    if wanted.since_ns is None or wanted.until_ns is None:
        raise RequestError(400, "since and until must both be given: events are counted between them")
    step_ns = step_s * 10**9
    if wanted.until_ns - wanted.since_ns > MAX_STEPS * step_ns:
        raise RequestError(400, f"until must be {MAX_STEPS} steps of step_s = {step_s} after since at the most")
    found = site.store().counts(wanted, step_ns)
    return EventCountsOut(step_s, [EventCountOut(timestamp(each.at_ns), each.label, each.count) for each in found])


def moment_ns(name: str, text: str) -> int:
    """Return an RFC 3339 moment, UTC where it says no zone, as Unix time; RequestError 400 where it is none."""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a + that was not escaped arrives as a space
    except ValueError:
        raise RequestError(400, f"{name} must be a moment such as 2026-11-23T09:00:00Z, got {text[:60]!r}") from None
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000) * 1_000_000


def _event(site: Site, reader: TheReader, number: int) -> StoredEvent:
    """An event that the reader may see."""
    found = site.store().get(number)
    permit(reader, "viewer", found.stream)
    return found


@get("/api/events/{number:int}", opt=needs("viewer"), sync_to_thread=True)
def event(number: FromPath[int], site: TheSite, reader: TheReader) -> EventOut:
    """Return one event."""
    return event_out(_event(site, reader, number))


@delete("/api/events/{number:int}", opt=needs("admin"), status_code=200, sync_to_thread=True)
def remove_event(number: FromPath[int], site: TheSite, reader: TheReader) -> dict[str, int]:
    """Delete an event with its picture and clip."""
    _event(site, reader, number)
    return {"deleted": site.store().delete([number])}


@get("/api/events/{number:int}/snapshot.jpg", opt=needs("viewer"), sync_to_thread=True)
def snapshot(number: FromPath[int], site: TheSite, reader: TheReader) -> Response[bytes]:
    """Return the picture of an event, JPEG."""
    _event(site, reader, number)
    jpeg = site.store().snapshot(number)
    if jpeg is None:
        raise RequestError(404, f"event {number} has no picture")
    return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "private, no-cache"})


@get(PATH, opt=needs("nobody"), sync_to_thread=True)
def linked_snapshot(
    request: Request[Any, Any, Any],
    site: TheSite,
    at: FromQuery[str] = "",
    stream: FromQuery[str] = "",
    event: FromQuery[str] = "",
    kind: FromQuery[str] = "",
    track: FromQuery[str] = "",
    expires: FromQuery[str] = "",
    signature: FromQuery[str] = "",
) -> Response[bytes]:
    """Return the picture of an event by a signed link, JPEG; whoever has the link needs no login while it holds."""
    if site.links is None:
        raise RequestError(404, "this server has no links to pictures: say web.link_secret in the configuration")
    site.links.check(request.query_params)
    at_ns = moment_ns("at", at)
    number = None if track == "" else int(track)
    query = EventQuery(
        streams=(stream,), events=(event,), kinds=(kind,), track=number, since_ns=at_ns, until_ns=at_ns + 1
    )
    for found in site.store().page(query, 10).events:
        jpeg = site.store().snapshot(found.id) if found.has_snapshot else None
        if jpeg is not None:
            return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "private, no-store"})
    raise RequestError(404, "the picture is not kept, or not yet")


@get("/api/events/{number:int}/clip.mp4", opt=needs("viewer"), sync_to_thread=True)
def clip(number: FromPath[int], request: Request[Any, Any, Any], site: TheSite, reader: TheReader) -> Stream:
    """Return the clip of an event, MP4, or the part of it that a Range header asks for."""
    found = _event(site, reader, number)
    file = _clip_of(site, found)
    if file is None:
        raise RequestError(404, f"event {number} has no clip")
    size = file.stat().st_size
    first, last, partial = byte_range(request.headers.get("range"), size)
    headers = {"accept-ranges": "bytes", "content-length": str(last - first + 1), "cache-control": "private, no-cache"}
    began = clip_began(file.name)
    if began is not None:
        headers["x-captured-at"] = began  # the page draws the track over it
    if partial:
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    return Stream(
        _part(file, first, last), media_type="video/mp4", status_code=206 if partial else 200, headers=headers
    )


def _clip_of(site: Site, event: StoredEvent) -> Path | None:
    """The file of an event's clip, which lies in the folder of clips and nowhere else."""
    file = site.store().clip_file(event)
    return None if file is None or file.name != event.clip or not file.is_file() else file


@get("/api/events/{number:int}/boxes", opt=needs("viewer"), sync_to_thread=True)
def boxes(number: FromPath[int], site: TheSite, reader: TheReader) -> Response[bytes]:
    """Return what was seen in each frame of an event's clip: ``{"at_s", "size", "objects", "faces"}``, JSON."""
    file = _clip_of(site, _event(site, reader, number))
    beside = None if file is None else boxes_of(file)
    text = beside.read_bytes() if beside is not None and beside.is_file() else b""
    lines = text[: text.rfind(b"\n") + 1].splitlines()  # the last one may still be written
    return Response(b"[" + b",".join(lines) + b"]", media_type="application/json")


def clip_began(name: str) -> str | None:
    """Return when a clip's first picture was taken, RFC 3339, as its file's name tells; None where it does not.

    >>> clip_began("20261123T091407.120Z_door.mp4")
    '2026-11-23T09:14:07.120Z'
    """
    found = _BEGAN.match(name)
    return None if found is None else "{}-{}-{}T{}:{}:{}Z".format(*found.groups())


def byte_range(header: str | None, size: int) -> tuple[int, int, bool]:
    """Return the first and last byte that a Range header asks for, and whether it asks for a part (RFC 9110, 14).

    Several ranges, and what is no range, are answered with the whole file.

    Raises:
        RequestError: 416; it lies beyond the file.

    >>> byte_range("bytes=2-", 10), byte_range("bytes=-3", 10), byte_range("bytes=0-99", 10), byte_range(None, 10)
    ((2, 9, True), (7, 9, True), (0, 9, True), (0, 9, False))
    """
    found = None if header is None else _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size - 1, False
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
    if first > last:
        raise RequestError(416, f"the Range header asks for {header[:60] if header else ''!r} of {size} bytes")
    return first, last, True


async def _part(file: Path, first: int, last: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(file, "rb") as opened:
        await opened.seek(first)
        left = last - first + 1
        while left > 0 and (chunk := await opened.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


ROUTES = (events, counts, event, remove_event, snapshot, linked_snapshot, clip, boxes)
