"""Enrolling a track of a running stream: the gallery file carries the request there and the answer back."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from engines.errors import EnrollError, GalleryError, kind_and_line
from pipeline.frames.clock import timestamp
from pipeline.gallery.gallery import Gallery, Terms, clean_name
from pipeline.gallery.views import BestViews, View, encode_photo

PATIENCE_S: Final = 5.0  # that a running pipeline has to answer
POLL_S: Final = 0.05

Tracks = Mapping[int, BestViews]  # id of a live face track -> what is remembered of it


@dataclass(frozen=True, slots=True)
class Request:
    """A request to enrol a face track of a stream."""

    stream: str
    track: int
    name: str
    terms: Terms
    keep_photos: bool


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request."""

    qualities: list[float] = []  # of the views that were enrolled
    refusal: str | None = None  # or why there are none


def enroll_track(gallery: Gallery, request: Request, patience_s: float = PATIENCE_S) -> list[float]:
    """Ask the running pipeline that sees a track to enrol it, and wait for its answer.

    Returns:
        The quality of each enrolled view in [0, 1].

    Raises:
        EnrollError: the pipeline refuses, or none that uses this gallery answers.
        GalleryError: the name is not allowed, or the gallery cannot be written.
    """
    row = _ask(gallery, request, patience_s)
    limit = time.monotonic() + patience_s
    try:
        while not _answer(gallery, row) and time.monotonic() < limit:
            time.sleep(POLL_S)
    finally:
        answer = _withdraw(gallery, row)
    if answer is None:
        raise EnrollError(
            f"track {request.stream}:{request.track}: no running pipeline with gallery {gallery.path} has shown frames "
            f"of a stream called {request.stream!r} within {patience_s:g} seconds"
        )
    if answer.refusal is not None:
        raise EnrollError(f"track {request.stream}:{request.track}: {answer.refusal}")
    return answer.qualities


def answer_requests(gallery: Gallery, tracks_of: Callable[[str], Tracks | None]) -> list[Callable[[Gallery], None]]:
    """Return the work for the waiting requests: call each with a gallery of its own thread.

    Args:
        gallery: where requests are looked for.
        tracks_of: the live face tracks of a stream; None for a stream that is not of this run, whose requests are left
            for another that uses the same gallery.
    """
    rows = gallery.file.rows(
        "SELECT id, stream, track, name, consent, expires_at, keep_photos FROM requests"
        " WHERE answer IS NULL AND valid_until > ?",
        timestamp(time.time_ns()),
    )
    answers = []
    for row, stream, track, name, consent, expires_at, keep_photos in rows:
        request = Request(stream, track, name, Terms(consent, expires_at), bool(keep_photos))
        tracks = tracks_of(stream)
        if tracks is not None:
            answers.append(_answering(row, request, tracks))
    return answers


def _answering(row: int, request: Request, tracks: Tracks) -> Callable[[Gallery], None]:
    views = tracks[request.track].of_one_face() if request.track in tracks else None
    live = ", ".join(map(str, sorted(tracks)))

    def answer(gallery: Gallery) -> None:
        try:
            if views is None:
                raise EnrollError(f"there is no such face now, but {live or 'none'}")
            _enroll(gallery, row, request, views)
        except GalleryError as error:
            _refuse(gallery, row, str(error))
        except Exception as error:  # the asking process waits for an answer and gets the error this way
            _refuse(gallery, row, f"it failed: {kind_and_line(error)}")
            raise

    return answer


def _enroll(gallery: Gallery, row: int, request: Request, views: Sequence[View]) -> None:
    """Enrol the good ones of these views, in one transaction with the answer."""
    flaws = [view.flaw() for view in views]
    good = [view for view, flaw in zip(views, flaws, strict=True) if flaw is None]
    if not good:
        raise EnrollError(f"no view of it is good enough: its face {flaws[0] if flaws else 'was not looked at yet'}")
    qualities = [view.quality for view in good]
    photos = [encode_photo(view.crop) if request.keep_photos else None for view in good]
    with gallery.changing():
        if not _put(gallery, row, Answer(qualities)):
            return  # the asking process has given up
        sources = [f"{request.stream}:{request.track}"] * len(good)
        embeddings = np.stack([view.embedding for view in good])
        gallery.enroll(request.name, embeddings, sources, qualities, photos, request.terms)


def _refuse(gallery: Gallery, row: int, why: str) -> None:
    with gallery.file.transaction():
        _put(gallery, row, Answer(refusal=why))


def _put(gallery: Gallery, row: int, answer: Answer) -> bool:
    with gallery.file.transaction() as db:
        text = msgspec.json.encode(answer).decode()
        query = "UPDATE requests SET answer = ? WHERE id = ? AND answer IS NULL AND valid_until > ?"
        return db.execute(query, (text, row, timestamp(time.time_ns()))).rowcount == 1


def _ask(gallery: Gallery, request: Request, patience_s: float) -> int:
    now_ns = time.time_ns()
    with gallery.file.transaction() as db:
        # Of a process that was killed while it waited.
        db.execute("DELETE FROM requests WHERE valid_until <= ?", (timestamp(now_ns),))
        row = (
            request.stream,
            request.track,
            clean_name(request.name),
            request.terms.consent,
            request.terms.expires_at,
            request.keep_photos,
            timestamp(now_ns + round(patience_s * 1e9)),
        )
        columns = "stream, track, name, consent, expires_at, keep_photos, valid_until"
        asked = db.execute(f"INSERT INTO requests ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return int(asked.lastrowid or 0)


def _answer(gallery: Gallery, row: int) -> Answer | None:
    for (text,) in gallery.file.rows("SELECT answer FROM requests WHERE id = ?", row):
        return None if text is None else msgspec.json.decode(text, type=Answer)
    return None


def _withdraw(gallery: Gallery, row: int) -> Answer | None:
    """Return the answer, if there is one, and delete the request."""
    with gallery.file.transaction() as db:
        answer = _answer(gallery, row)
        db.execute("DELETE FROM requests WHERE id = ?", (row,))
    return answer
