"""Streams of the run: added, changed, removed and switched while it goes on."""

import asyncio
from pathlib import Path
from typing import Any, Final

import msgspec
import tomlkit
from litestar import delete, get, patch, post, put
from litestar.params import FromPath, JSONBody
from tomlkit import TOMLDocument

from engines.errors import ConfigError, RequestError
from pipeline.service.control_socket import (
    AddStream,
    ChangeStream,
    ControlAnswer,
    LookOnly,
    Reload,
    RemoveStream,
    Request,
    SetSwitch,
    ask,
)
from pipeline.service.reloading import Reloaded
from pipeline.service.web.config_file import differs_only_in, put_keys, rewrite, row_of
from pipeline.service.web.gate import TheSite, needs
from pipeline.service.web.site import Site
from pipeline.settings.explain import RefusedError, converted
from pipeline.settings.redact import as_written, redact
from pipeline.settings.schema import Config, StreamSettings

SECRETS: Final = ("user", "password", "curve_secret_file")  # never read, only written


class StreamSwitched(msgspec.Struct, forbid_unknown_fields=True):
    """How the switches of a stream are, or are to be; null: as they are."""

    detect: bool | None = None
    record: bool | None = None


class StreamKept(msgspec.Struct):
    """What became of a change: whether the run has taken it over, and whether the configuration file has it."""

    name: str
    taken_over: bool
    written: bool


# The three that share a path have their threads themselves: Litestar would wrap the first of them twice.
@get("/api/streams/{name:str}", opt=needs("admin"))
async def stream(name: FromPath[str], site: TheSite) -> dict[str, Any]:
    """Return how a stream is, its settings without secrets, and its switches."""
    return await asyncio.to_thread(_stream, site, name)


def _stream(site: Site, name: str) -> dict[str, Any]:
    settings = site.settings().get(name)
    if settings is None and name not in site.hub.names():
        raise RequestError(404, f"there is no stream {name!r}")
    switches = {} if site.places.control is None else ask_run(site, LookOnly()).switches.get(name, {})
    return site.hub.report(name) | {
        "settings": None if settings is None else shown(settings),
        "switches": switches,
    }


def shown(settings: StreamSettings) -> dict[str, Any]:
    """Return the settings that are not as they are anyway, as JSON; the source without what may be secret in it."""
    values: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=as_written)
    plain = msgspec.to_builtins(StreamSettings(name=settings.name, source=""))
    kept = {key: value for key, value in values.items() if value != plain[key] and key not in SECRETS}
    return {"name": settings.name} | kept | {"source": redact(values["source"])}


@post("/api/streams", opt=needs("admin"), sync_to_thread=True)
def add_stream(data: JSONBody[dict[str, Any]], site: TheSite) -> StreamKept:
    """Capture one stream more: the keys of ``[[streams]]``, with ``name`` and ``source`` at least."""
    settings = settings_of(data)

    def edit(document: TOMLDocument, before: Config) -> None:
        if any(each.name == settings.name for each in before.streams):
            raise RequestError(409, f"there is a stream {settings.name!r} already")
        streams: Any = document["streams"]
        table: Any = tomlkit.inline_table() if isinstance(streams, tomlkit.items.Array) else tomlkit.table()
        put_keys(table, data)
        streams.append(table)

    def meant(before: Config, after: Config) -> bool:
        return after == msgspec.structs.replace(before, streams=(*before.streams, after.streams[-1]))

    if site.places.config is not None:
        return _kept(settings.name, rewrite(site, edit, meant))
    ask_run(site, AddStream(settings))
    return StreamKept(settings.name, True, False)


@patch("/api/streams/{name:str}", opt=needs("admin"))
async def change_stream(name: FromPath[str], data: JSONBody[dict[str, Any]], site: TheSite) -> StreamKept:
    """Capture a stream by other values of some keys; null: as if a key were left out."""
    return await asyncio.to_thread(_change, site, name, data)


def _change(site: Site, name: str, data: dict[str, Any]) -> StreamKept:
    if data.get("name", name) != name:
        raise RequestError(400, f"name is {data['name']!r}, but must be {name!r} or be left out")
    if unknown := sorted(set(data) - set(StreamSettings.__struct_fields__)):
        raise RequestError(400, f"{unknown[0]} is not a key of a stream")
    if data.get("source", "") is None:
        raise RequestError(400, "source is null, but must be a text")

    def edit(document: TOMLDocument, before: Config) -> None:
        rows.append(row_of(before, name))
        put_keys(document["streams"][rows[0]], data)

    rows: list[int] = []
    if site.places.config is not None:
        return _kept(name, rewrite(site, edit, lambda *both: differs_only_in(rows[0], data)(*both)))
    ask_run(site, ChangeStream(name, data))
    return StreamKept(name, True, False)


@delete("/api/streams/{name:str}", opt=needs("admin"), status_code=200)
async def remove_stream(name: FromPath[str], site: TheSite) -> StreamKept:
    """Capture a stream no longer; its frames on their way are published before."""
    return await asyncio.to_thread(_remove, site, name)


def _remove(site: Site, name: str) -> StreamKept:
    def edit(document: TOMLDocument, before: Config) -> None:
        rows.append(row_of(before, name))
        if len(before.streams) == 1:
            raise RequestError(409, f"{name!r} is the last stream of the configuration, which must have one")
        del document["streams"][rows[0]]

    def meant(before: Config, after: Config) -> bool:
        left = before.streams[: rows[0]] + before.streams[rows[0] + 1 :]
        return after == msgspec.structs.replace(before, streams=left)

    rows: list[int] = []
    if site.places.config is not None:
        return _kept(name, rewrite(site, edit, meant))
    ask_run(site, RemoveStream(name))
    return StreamKept(name, True, False)


@put("/api/streams/{name:str}/switches", opt=needs("admin"), sync_to_thread=True)
def switch_stream(name: FromPath[str], data: JSONBody[StreamSwitched], site: TheSite) -> StreamSwitched:
    """Switch detection or recording of a stream, until the run is over; null: leave it as it is."""
    answer = ask_run(site, LookOnly())
    if name not in answer.switches:
        raise RequestError(404, f"the run has no stream {name!r}")
    if data.record is not None:
        answer = ask_run(site, SetSwitch(name, "record", data.record))
    if data.detect is not None:
        answer = ask_run(site, SetSwitch(name, "detect", data.detect))
    return StreamSwitched(**answer.switches[name])


@post("/api/reload", opt=needs("admin"), status_code=200, sync_to_thread=True)
def reload(site: TheSite) -> Reloaded:
    """Read the configuration again, and say what was different; a wrong one changes nothing."""
    reloaded = ask_run(site, Reload()).reloaded
    assert reloaded is not None
    return reloaded


def settings_of(data: dict[str, Any]) -> StreamSettings:
    """Return the settings that a request has, RequestError 400 where they are none."""
    try:
        return converted(StreamSettings, data, data, ())
    except RefusedError as error:
        raise RequestError(400, str(error)) from None


def _kept(name: str, done: tuple[Config, Reloaded | None]) -> StreamKept:
    return StreamKept(name, done[1] is not None, True)


def ask_run(site: Site, request: Request) -> ControlAnswer:
    """Have the run carry out a request; RequestError 409 where it refuses, or there is none."""
    path: Path | None = site.places.control
    if path is None:
        raise RequestError(409, "no run is known to this server: serve the page with `trunkline run ... --web`")
    try:
        return ask(path, request)
    except ConfigError as error:
        raise RequestError(409, str(error)) from error


ROUTES = (stream, add_stream, change_stream, remove_stream, switch_stream, reload)
