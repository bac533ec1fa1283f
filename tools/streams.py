"""``trunkline streams``, ``tune`` and ``reload``: a run that goes on, changed through the page's server."""

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ConfigError
from pipeline.wire.rest import RestClient, StreamChange

TOKEN: Final = "TRUNKLINE_TOKEN"  # of the environment

app = typer.Typer(
    no_args_is_help=True,
    help="List, add, change, remove and switch the streams of a run that goes on and serves the page.",
    epilog="Example: trunkline streams add yard rtsp://camera.local/yard --set loop=false",
)

Url = Annotated[str, typer.Option("--url", help="Of the page's server.")]
CaFile = Annotated[
    Path | None, typer.Option(help="Certificate of the server, such as trunkline-web.crt; else the system's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Keys = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A key of [[streams]] and its value, as in TOML.")
]
Name = Annotated[str, typer.Argument(help="Of the stream.")]
OnOff = Literal["on", "off"]
HERE: Final = "http://127.0.0.1:8080"


@contextmanager
def _client(url: str, ca_file: Path | None) -> Iterator[RestClient]:
    """A client whose token is in the environment, where others do not see it."""
    with RestClient(url, os.environ.get(TOKEN), ca_file) as client:
        yield client


@app.command("list")
def list_streams(url: Url = HERE, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """Show the streams and how they are.

    Example: trunkline streams list

    Beyond this host, a token is read from the environment variable TRUNKLINE_TOKEN (docs/page.md).
    """
    with _client(url, ca_file) as client:
        streams = client.streams()
    if as_json:
        typer.echo(msgspec.json.encode(streams))
        return
    table = Table("name", "state", "frames/s", "p99 ms", "captured", "published", "dropped")
    for each in streams:
        drops = ", ".join(f"{count} {cause}" for cause, count in each.dropped.items())
        counts = str(each.captured), str(each.published), drops
        latency = "" if each.latency_ms.p99 is None else f"{each.latency_ms.p99:g}"
        table.add_row(each.name, each.state, f"{each.fps:g}", latency, *counts)
    console = Console()
    console.print(table)
    for each in streams:
        if each.cause:
            console.print(f"{each.name}: {each.cause}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def add(
    name: Name,
    source: Annotated[str, typer.Argument(help="Address, file or camera's index.")],
    keys: Keys = [],  # noqa: B006  # typer's way of saying none
    url: Url = HERE,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Capture one stream more, and write it to the run's configuration, where it has one.

    Example: trunkline streams add yard rtsp://camera.local/yard --set timeout_s=3
    """
    with _client(url, ca_file) as client:
        _tell("added", client.add(name, source, **_values(keys)), as_json)


@app.command()
def change(name: Name, keys: Keys, url: Url = HERE, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """Capture a stream by other values of some keys; KEY= alone is its default.

    Example: trunkline streams change yard --set timeout_s=3 --set transport='"udp"'
    """
    with _client(url, ca_file) as client:
        _tell("changed", client.change(name, **_values(keys)), as_json)


@app.command()
def remove(name: Name, url: Url = HERE, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """Capture a stream no longer.

    Example: trunkline streams remove yard
    """
    with _client(url, ca_file) as client:
        _tell("removed", client.remove(name), as_json)


@app.command()
def switch(
    name: Name,
    detect: Annotated[OnOff | None, typer.Option(help="Whether it is captured at all.")] = None,
    record: Annotated[OnOff | None, typer.Option(help="Whether its annotated video is written.")] = None,
    url: Url = HERE,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Switch detection or recording of a stream off and on, until the run is over.

    Example: trunkline streams switch yard --record off
    """
    with _client(url, ca_file) as client:
        states = client.switch(name, detect=_is_on(detect), record=_is_on(record))
    if as_json:
        typer.echo(msgspec.json.encode(states))
    else:
        typer.echo(f"{name}: " + ", ".join(f"{what} {'on' if on else 'off'}" for what, on in states.items()))


def tune(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As in TOML; KEY= is its default.")
    ] = None,
    url: Url = HERE,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Change thresholds and rates of a run that goes on, or show them all.

    Example: trunkline tune inference.fps=5 inference.object_score=0.4

    They are written to the run's configuration, where it has one; no stream is opened anew.
    """
    with _client(url, ca_file) as client:
        done = client.tune(_values(keys)) if keys else None
        settings = client.settings()
    if as_json:
        typer.echo(msgspec.json.encode(settings))
        return
    for key, value in settings.items():
        typer.echo(f"{key} = {'the model decides' if value is None else msgspec.json.encode(value).decode()}")
    if done is not None:
        typer.echo(_where(done.taken_over, done.written))


def reload(url: Url = HERE, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """Have a run read its configuration again, and say what was different; a wrong one changes nothing.

    Example: trunkline reload

    The run has to serve the page; any run does the same at SIGHUP, and logs what was different.
    """
    with _client(url, ca_file) as client:
        report = client.reload()
    if as_json:
        typer.echo(msgspec.json.encode(report))
        return
    told = {"added": report.added, "changed": report.changed + report.tuned, "removed": report.removed}
    for verb, names in told.items():
        for name in names:
            typer.echo(f"{name} {verb}")
    for key in report.needs_restart:
        typer.echo(f"{key} is different, which needs a restart")
    if not any(told.values()) and not report.needs_restart:
        typer.echo("nothing is different")


def _values(keys: list[str]) -> dict[str, Any]:
    """Keys and values as TOML has them; None: the default.

    >>> _values(["timeout_s=3", 'transport="udp"', "loop="])
    {'timeout_s': 3, 'transport': 'udp', 'loop': None}
    """
    values: dict[str, Any] = {}
    for pair in keys:
        key, equals, text = pair.partition("=")
        if not equals or not key.replace(".", "_").isidentifier():
            raise ConfigError(f"{pair!r} is given, but must be KEY=VALUE")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"] if text else None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{pair!r} is given, whose value is no TOML (a text has quotes): {error}") from None
    return values


def _is_on(state: OnOff | None) -> bool | None:
    return None if state is None else state == "on"


def _tell(verb: str, done: StreamChange, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(done))
        return
    typer.echo(f"{done.name} {verb} {_where(done.taken_over, done.written)}")


def _where(taken_over: bool, written: bool) -> str:
    if not taken_over:
        return "in the configuration; no run is known"
    return "in the configuration and the run" if written else "in the run alone"
