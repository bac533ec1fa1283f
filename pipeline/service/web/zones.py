"""Zones and lines of a stream, drawn on the page and written to the run's configuration file."""

from typing import Any

import msgspec
from litestar import get, put
from litestar.params import FromPath, JSONBody
from tomlkit import TOMLDocument

from engines.errors import RequestError
from pipeline.service.web.config_file import differs_only_in, put_keys, rewrite, row_of
from pipeline.service.web.gate import TheSite, needs
from pipeline.settings.schema import Config, StreamSettings


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
    rows: list[int] = []

    def edit(document: TOMLDocument, before: Config) -> None:
        rows.append(row_of(before, name))
        put_keys(document["streams"][rows[0]], {"zones": data.zones, "lines": data.lines})

    def meant(before: Config, after: Config) -> bool:
        stream = after.streams[rows[0]]
        counts = len(stream.zones), len(stream.lines)
        same = differs_only_in(rows[0], ("zones", "lines"))(before, after)
        return same and counts == (len(data.zones), len(data.lines))

    new, reloaded = rewrite(site, edit, meant)
    shown = places_of(new.streams[rows[0]])
    return Written(shown["zones"], shown["lines"], reloaded is not None)


ROUTES = (zones, write_zones)
