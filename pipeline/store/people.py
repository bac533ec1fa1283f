"""Whom events name, and which events show somebody."""

import json
import sqlite3
from bisect import bisect_right
from datetime import datetime
from typing import Any, Final

FACE: Final = ("face", "identity")  # kinds of events of the track of a face ...
BODY: Final = ("object", "zone", "line")  # ... and of an object
FIRST_SEEN: Final = "json_extract(CAST(body AS TEXT), '$.first_seen')"
NEVER: Final = 2**63


def showing(db: sqlite3.Connection, name: str) -> dict[int, str | None]:
    """Return the events that name a person, and all others of the same face and the body it is of: numbers, and clips.

    Somebody is seen before they are recognised, and the picture of a body shows its face.
    """
    found: dict[int, str | None] = {}
    tracks: dict[tuple[str, int, tuple[str, ...]], _Track] = {}
    select = "SELECT id, at_ns, stream, track, body, clip FROM events WHERE person = ?"
    for number, at_ns, stream, face, body, clip in db.execute(select, (name,)).fetchall():
        found[number] = clip
        of = (json.loads(body).get("best_face") or {}).get("object")
        for track, kinds in ((face, FACE), (of, BODY)):
            if track is not None:
                if (stream, track, kinds) not in tracks:
                    tracks[stream, track, kinds] = _Track(db, stream, track, kinds)
                found |= tracks[stream, track, kinds].seen_at(at_ns)
    return found


class _Track:
    """The events of all tracks that had one number: it is given anew by each run."""

    def __init__(self, db: sqlite3.Connection, stream: str, number: int, kinds: tuple[str, ...]) -> None:
        columns, marks = f"id, at_ns, kind, clip, {FIRST_SEEN}", ", ".join("?" * len(kinds))
        self._rows = db.execute(
            f"SELECT {columns} FROM events WHERE track = ? AND stream = ? AND kind IN ({marks})",
            (number, stream, *kinds),
        ).fetchall()
        self._begun = sorted({_ns(first) for _, _, kind, _, first in self._rows if kind == kinds[0] and first})

    def seen_at(self, at_ns: int) -> dict[int, str | None]:
        """Return the events of that track which there was at a moment: their numbers, and their clips."""
        place = bisect_right(self._begun, at_ns)
        if place == 0:
            return {}
        begin, end = self._begun[place - 1], (*self._begun, NEVER)[place]
        return {number: clip for number, at, _, clip, _ in self._rows if begin <= at < end}


def _ns(moment: str) -> int:
    """Unix time of an RFC 3339 moment, in milliseconds as the store's."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000) * 1_000_000


def rename(db: sqlite3.Connection, name: str, to: str | None) -> int:
    """Let all events call a person ``to``, None: nothing; return how many named them."""
    rows = db.execute(
        "SELECT id, body FROM events WHERE person = ? OR (kind = 'identity' AND instr(body, ?))",
        (name, json.dumps(name, ensure_ascii=False)[1:-1].encode()),
    ).fetchall()
    for number, body in rows:
        called = json.dumps(_called(json.loads(body), name, to), separators=(",", ":"), ensure_ascii=False)
        db.execute(
            "UPDATE events SET label = CASE WHEN kind = 'identity' AND label = :name THEN :to ELSE label END,"
            " person = CASE WHEN person = :name THEN :to ELSE person END, body = :body WHERE id = :id",
            {"name": name, "to": to, "body": called.encode(), "id": number},
        )
    return len(rows)


def _called(body: dict[str, Any], name: str, to: str | None) -> dict[str, Any]:
    """The JSON of an event, with another name, or null, wherever it names a person."""
    if body.get("kind") == "identity":
        body |= {key: to for key in ("label", "previous") if body.get(key) == name}
    face = body.get("best_face")
    if face and face.get("identity") and face["identity"]["name"] == name:
        body["best_face"] = face | {"identity": None if to is None else face["identity"] | {"name": to}}
    return body
