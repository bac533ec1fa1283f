"""``trunkline subscribe``."""

import math
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer

from pipeline.wire.client import Subscriber
from pipeline.wire.messages import EventMessage, FaceMessage, FrameMessage, HealthMessage, Message, MessageType

EXIT_TOO_FEW = 1


class Kind(StrEnum):
    """The types of messages, as an enumeration: typer takes no list of literals."""

    frame = "frame"
    event = "event"
    health = "health"


def subscribe(
    address: Annotated[str, typer.Argument(help="Where Trunkline publishes: tcp://HOST:PORT or ipc://PATH.")],
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; may be given again.")] = None,
    kind: Annotated[
        list[Kind] | None, typer.Option("--type", help="Only messages of this type; may be given again.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Leave after so many messages.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.0, help="Leave after so many seconds; exit status 1 if --count was not reached."),
    ] = None,
    server_key: Annotated[Path | None, typer.Option(help="The publisher's public key file.")] = None,
    client_key: Annotated[
        Path | None, typer.Option(help="Your own key file, where the publisher has a list of who may subscribe.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON message a line, as docs/messages.md has it.")
    ] = False,
) -> None:
    """Print the messages of a running Trunkline, one a line.

    Example: trunkline subscribe tcp://127.0.0.1:5555 --stream door --type event --json
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    received = 0
    types = cast("list[MessageType] | None", kind or None)
    with Subscriber(
        address, streams=stream or None, types=types, server_key=server_key, client_key=client_key
    ) as subscriber:
        while count is None or received < count:
            message = subscriber.receive(None if math.isinf(end) else end - time.monotonic())
            if message is None:
                raise typer.Exit(EXIT_TOO_FEW if count is not None else 0)
            received += 1
            typer.echo(msgspec.json.encode(message) if as_json else line(message))


def line(message: Message) -> str:
    """A message as one line for people."""
    match message:
        case FrameMessage():
            return f"{_clock(message.captured_at)} {message.stream} #{message.seq}  {_seen(message)}"
        case EventMessage():
            return f"{_clock(message.captured_at)} {message.stream} #{message.seq}  {_happened(message)}"
        case HealthMessage():
            return f"{_clock(message.at)} {message.stream} {message.state}: {message.cause}"


def _clock(rfc3339: str) -> str:
    return rfc3339[11:23]


def _seen(message: FrameMessage) -> str:
    groups = [
        ", ".join(f"{one.label} {one.track} ({one.score:.2f})" for one in message.objects),
        ", ".join(_face(face) for face in message.faces),
        ", ".join(f"{scene.label} ({scene.score:.2f})" for scene in message.scene[:1]),
    ]
    seen = "; ".join(group for group in groups if group) or "nothing"
    return f"{seen}  [{message.timings_ms.total:.1f} ms]"


def _face(face: FaceMessage) -> str:
    if face.identity is None:
        return f"face {face.track}: unknown"
    return f"face {face.track}: {face.identity.name} ({face.identity.score:.2f})"


def _happened(message: EventMessage) -> str:
    if message.kind in ("zone", "line"):
        way = "" if message.direction is None else f" {message.direction}"
        stayed = f" after {message.duration_s:.1f} s" if message.event in ("leave", "dwell") else ""
        return f"{message.kind} {message.name} {message.event}{way}: {message.label} {message.track}{stayed}"
    what = message.kind if message.track is None else f"{message.kind} {message.track}"
    label = "" if message.label is None else f": {message.label}"
    before = "" if message.previous is None else f" (was {message.previous})"
    return f"{what} {message.event}{label}{before}"
