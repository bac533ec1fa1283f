"""``trunkline events``: look at what was kept of a run, take it along, delete it."""

import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ConfigError, StoreError
from engines.files import write_private
from pipeline.frames.clock import timestamp
from pipeline.store import EventQuery, EventStore, StoredEvent
from tools.options import takes

app = typer.Typer(
    no_args_is_help=True,
    help='List, show, export and delete the events that a run keeps ([[sinks]] with kind = "store").',
    epilog="Example: trunkline events list --label person --since 2026-11-23",
)

SPANS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Store = Annotated[Path, typer.Option("--store", help="Folder of the event store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one event a line.")]
Streams = Annotated[list[str] | None, typer.Option("--stream", help="Of this stream; repeatable.")]
Names = Annotated[list[str] | None, typer.Option("--event", help="new, changed, ended, enter ...; repeatable.")]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="object, face, identity, scene, zone, line; repeatable.")
]
Label = Annotated[str | None, typer.Option(help="With this label, such as person.")]
Person = Annotated[str | None, typer.Option(help="About this person of the gallery.")]
Place = Annotated[str | None, typer.Option(help="At this zone or line.")]
Score = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="With at least this score.")]
Since = Annotated[
    str | None, typer.Option(metavar="MOMENT", help="From then on: 2026-11-23, 2026-11-23T09:00Z, or 2h ago as 2h.")
]
Until = Annotated[str | None, typer.Option(metavar="MOMENT", help="Before that moment.")]


def _query(
    stream: Streams = None,
    event: Names = None,
    kind: Kinds = None,
    label: Label = None,
    person: Person = None,
    place: Place = None,
    score: Score = None,
    since: Since = None,
    until: Until = None,
) -> EventQuery:
    return EventQuery(
        streams=tuple(stream or ()),
        events=tuple(event or ()),
        kinds=tuple(kind or ()),
        label=label,
        person=person,
        place=place,
        min_score=score,
        since_ns=None if since is None else moment_ns(since, "--since"),
        until_ns=None if until is None else moment_ns(until, "--until"),
    )


def moment_ns(text: str, option: str, now: datetime | None = None) -> int:
    """Return the moment that an option names, as Unix time; a day begins at midnight UTC, ``2h`` is two hours ago.

    Raises:
        ConfigError: it names none.
    """
    number, unit = text[:-1], text[-1:]
    if unit in SPANS and number.isascii() and number.isdecimal():
        moment = (now or datetime.now(UTC)) - timedelta(**{SPANS[unit]: int(number)})
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ConfigError(
                f"{option} must be a day (2026-11-23), a moment (2026-11-23T09:00Z) or how long ago (90s, 15m, 2h, "
                f"7d), got {text!r}"
            ) from None
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000) * 1_000_000


@app.command("list")
@takes(_query)
def list_events(
    query: EventQuery,
    store: Store = Path("events"),
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Of events, the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what happened, newest first.

    Example: trunkline events list --stream door --label person --since 2h
    """
    with EventStore(store) as opened:
        found = list(islice(opened.matching(query), limit + 1))
    if as_json:
        for each in found[:limit]:
            typer.echo(msgspec.json.encode(each))
        return
    table = Table("number", "when (UTC)", "stream", "event", "kind", "track", "label", "who", "where", "score", "")
    for each in found[:limit]:
        table.add_row(*_row(each))
    Console().print(table)
    if len(found) > limit:
        typer.echo(f"the newest {limit}; --until {timestamp(found[limit - 1].at_ns)} shows those before", err=True)


def _row(event: StoredEvent) -> list[str]:
    """What the table shows of an event."""
    more = [word for word, there in (("picture", event.has_snapshot), ("clip", event.clip is not None)) if there]
    return [
        str(event.id),
        timestamp(event.at_ns)[:19].replace("T", " "),
        event.stream,
        event.event,
        event.kind,
        "" if event.track is None else str(event.track),
        event.label or "",
        event.person or "",
        event.place or "",
        "" if event.score is None else f"{event.score:.2f}",
        ", ".join(more),
    ]


@app.command()
def show(
    number: Annotated[int, typer.Argument(min=1, help="Of the event, as list shows it.")],
    store: Store = Path("events"),
    picture: Annotated[Path | None, typer.Option(help="Write its picture to this JPEG file.")] = None,
) -> None:
    """Print all that is known of an event, as JSON.

    Example: trunkline events show 17 --picture 17.jpg
    """
    with EventStore(store) as opened:
        found = opened.get(number)
        jpeg = opened.snapshot(number)
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    if picture is not None:
        if jpeg is None:
            raise StoreError(f"event {number}: has no picture")
        try:
            write_private(picture, jpeg)
        except OSError as error:
            raise ConfigError(f"--picture {picture}: cannot be written: {error.strerror}") from error


@app.command()
@takes(_query)
def export(
    query: EventQuery,
    store: Store = Path("events"),
) -> None:
    """Print events as they were published, JSON, one a line, newest first; without their pictures.

    Example: trunkline events export --person Ada > ada.jsonl
    """
    with EventStore(store) as opened:
        for each in opened.matching(query):
            sys.stdout.buffer.write(bytes(each.body) + b"\n")
    sys.stdout.buffer.flush()


@app.command()
@takes(_query)
def delete(
    query: EventQuery,
    store: Store = Path("events"),
    number: Annotated[list[int] | None, typer.Argument(help="Of events; none: those that the options choose.")] = None,
) -> None:
    """Delete events, with their pictures and clips.

    Example: trunkline events delete --stream yard --until 7d
    """
    if bool(number) == (query != EventQuery()):
        raise ConfigError(
            "events delete takes the numbers of events, or options that choose them, not both and not none"
        )
    with EventStore(store) as opened:
        gone = opened.delete(number) if number else opened.delete_matching(query)
        opened.give_back()
    typer.echo(f"{gone} event{'' if gone == 1 else 's'} deleted from {store}")
