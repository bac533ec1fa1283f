"""Zones and lines of a stream, drawn on the page and written to the run's configuration file."""

import os
import shutil
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import tomlkit
from litestar import get, put
from litestar.params import FromPath, JSONBody
from tomlkit.items import AoT, InlineTable, Table

from engines.errors import ConfigError, RequestError
from pipeline.service.web.gate import TheSite, needs
from pipeline.settings.load import load, parse
from pipeline.settings.schema import Config, StreamSettings

COPIES: Final = 10  # of earlier configurations that are kept
DECIMALS: Final = 4  # of a share of the picture: a tenth of a pixel of 1080p

log = structlog.get_logger()
_writing = threading.Lock()


class StreamPlaces(msgspec.Struct, forbid_unknown_fields=True):
    """Zones and lines as a configuration has them; null is as if it were left out."""

    zones: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []


class Written(msgspec.Struct):
    """What stands in the configuration now, and whether a run was told of it."""

    zones: Any
    lines: Any
    taken_over: bool


@get("/api/streams/{name:str}/zones", opt=needs("viewer", of_stream="name"), sync_to_thread=True)
def zones(name: FromPath[str], site: TheSite) -> dict[str, Any]:
    """Return the zones and lines of a stream."""
    settings = site.settings().get(name)
    if settings is None and name not in site.hub.names():
        raise RequestError(404, f"there is no stream {name!r}")
    return places_of(settings)


def places_of(settings: StreamSettings | None) -> dict[str, Any]:
    """Return zones and lines as JSON has them."""
    return {
        "zones": msgspec.to_builtins(() if settings is None else settings.zones),
        "lines": msgspec.to_builtins(() if settings is None else settings.lines),
    }


@put("/api/streams/{name:str}/zones", opt=needs("admin", of_stream="name"), sync_to_thread=True)
def write_zones(name: FromPath[str], data: JSONBody[StreamPlaces], site: TheSite) -> Written:
    """Write zones and lines to the configuration, whose old copy is kept, and let the run take them over."""
    config = site.places.config
    if config is None:
        raise RequestError(
            409, "the run has no configuration file: write one, and start it with `trunkline run CONFIG`"
        )
    with _writing:
        new = replace_places(config, name, data)
    if site.places.run is not None and hasattr(signal, "SIGHUP"):
        os.kill(site.places.run, signal.SIGHUP)
    stream = next(each for each in new.streams if each.name == name)
    shown = places_of(stream)
    return Written(shown["zones"], shown["lines"], site.places.run is not None)


def replace_places(path: Path, name: str, places: StreamPlaces) -> Config:
    """Replace the zones and lines of a stream in a configuration file; all other text stays as it is.

    Returns:
        The configuration as it is now.

    Raises:
        RequestError: 404 where the file has no such stream, 409 where the text is of a kind that cannot be changed.
        ConfigError: the file cannot be read or written, or a zone or line is not allowed.
    """
    file = path.resolve()
    before = load(path)
    row = next((row for row, stream in enumerate(before.streams) if stream.name == name), None)
    if row is None:
        raise RequestError(404, f"{path} has no stream {name!r}")
    text = _text_with(file.read_text(encoding="utf-8"), row, places)
    after = parse(text, path)
    changed = {"zones": after.streams[row].zones, "lines": after.streams[row].lines}
    streams = list(before.streams)
    streams[row] = msgspec.structs.replace(streams[row], **changed)
    counts = len(changed["zones"]), len(changed["lines"])
    if after != msgspec.structs.replace(before, streams=tuple(streams)) or counts != (
        len(places.zones),
        len(places.lines),
    ):
        raise RequestError(
            409, f"{path} is written in a way that cannot be changed here: write the zones there by hand"
        )
    _write(file, text)
    return after


def _text_with(text: str, row: int, places: StreamPlaces) -> str:
    document = tomlkit.parse(text)
    stream = document["streams"][row]
    for key, wanted in (("zones", places.zones), ("lines", places.lines)):
        if key in stream:
            del stream[key]
        if wanted:
            stream[key] = _array(wanted, inline=isinstance(stream, InlineTable))
    return tomlkit.dumps(document)


def _array(places: list[dict[str, Any]], inline: bool) -> Any:
    if inline:
        array = tomlkit.array()
        for place in places:
            table = tomlkit.inline_table()
            table.update(_keys(place))
            array.append(table)
        return array
    tables = tomlkit.aot()
    for place in places:
        made: Table = tomlkit.table()
        made.update(_keys(place))
        tables.append(made)
    result: AoT = tables
    return result


def _keys(place: dict[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in place.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, str) and "${" in value:  # or a name would show what a variable holds
        raise RequestError(400, f"{value[:60]!r} must not name a variable")
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def _write(file: Path, text: str) -> None:
    """Put a text in a file's place, and keep a copy of what was there."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    fresh = file.with_name(f".{file.name}.new")
    try:
        shutil.copy2(file, file.with_name(f"{file.name}.{stamp}.bak"))
        shutil.copy2(file, fresh)  # its rights, since it may hold passwords
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, file)
        for old in sorted(file.parent.glob(f"{file.name}.*.bak"))[:-COPIES]:
            old.unlink()
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    log.info("zones written", file=str(file))


ROUTES = (zones, write_zones)
