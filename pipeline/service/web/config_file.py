"""The run's configuration file, changed by the page: what is not meant to change stays as it is written."""

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import AoT, InlineTable, Table

from engines.errors import ConfigError, RequestError
from pipeline.service.control_socket import Reload, ask
from pipeline.service.reloading import Reloaded
from pipeline.service.web.site import Site
from pipeline.settings.load import load, parse
from pipeline.settings.schema import Config

COPIES: Final = 10  # of earlier configurations that are kept
DECIMALS: Final = 4  # of a share of the picture: a tenth of a pixel of 1080p

log = structlog.get_logger()
_writing = threading.Lock()


def rewrite(
    site: Site, edit: Callable[[TOMLDocument, Config], object], meant: Callable[[Config, Config], bool]
) -> tuple[Config, Reloaded | None]:
    """Change the configuration file, keep a copy of what was there, and let the run take it over.

    What the run refuses is put back.

    Args:
        site: whose file it is.
        edit: changes the document of a configuration.
        meant: whether the configurations before and after differ in what was meant, and in nothing else.

    Returns:
        The configuration as it is now, and what the run took over; None where no run is known.

    Raises:
        RequestError: 409 where there is no file, or its text is of a kind that cannot be changed.
        ConfigError: it cannot be read or written, or what is wanted is not allowed.
    """
    path = site.places.config
    if path is None:
        raise RequestError(
            409, "the run has no configuration file: write one, and start it with `trunkline run CONFIG`"
        )
    with _writing:
        file = path.resolve()
        before, text = load(path), file.read_text(encoding="utf-8")
        document = tomlkit.parse(text)
        edit(document, before)
        new = tomlkit.dumps(document)
        after = parse(new, path)
        if not meant(before, after):
            raise RequestError(409, f"{path} is written in a way that cannot be changed here: change it by hand")
        _write(file, new)
        if site.places.control is None:
            return after, None
        try:
            return after, ask(site.places.control, Reload()).reloaded
        except ConfigError:
            _write(file, text)
            raise


def row_of(config: Config, name: str) -> int:
    """Return the place of a stream in a configuration; RequestError 404 where it has none of this name."""
    row = next((row for row, stream in enumerate(config.streams) if stream.name == name), None)
    if row is None:
        raise RequestError(404, f"the configuration has no stream {name!r}")
    return row


def put_keys(stream: Any, keys: dict[str, Any]) -> None:
    """Write some keys of a stream's table; what is None or empty is left out of it."""
    inline = isinstance(stream, InlineTable)
    for key, value in keys.items():
        if key in stream:
            del stream[key]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            stream[key] = _array(value, inline)
        elif value is not None and value != []:
            stream[key] = plain(value)


def _array(tables: list[dict[str, Any]], inline: bool) -> Any:
    if inline:
        array = tomlkit.array()
        for each in tables:
            table = tomlkit.inline_table()
            table.update(_keys(each))
            array.append(table)
        return array
    made = tomlkit.aot()
    for each in tables:
        one: Table = tomlkit.table()
        one.update(_keys(each))
        made.append(one)
    result: AoT = made
    return result


def _keys(table: dict[str, Any]) -> dict[str, Any]:
    return {key: plain(value) for key, value in table.items() if value is not None}


def plain(value: Any) -> Any:
    """Return a value as it is written; RequestError 400 for one that names a variable, whose value it would show."""
    if isinstance(value, str) and "${" in value:
        raise RequestError(400, f"{value[:60]!r} must not name a variable")
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return _keys(value)
    return round(value, DECIMALS) if isinstance(value, float) else value


def differs_only_in(row: int, keys: Iterable[str]) -> Callable[[Config, Config], bool]:
    """Return what tells whether two configurations are the same but for some keys of one stream."""

    def same(before: Config, after: Config) -> bool:
        streams = list(before.streams)
        streams[row] = msgspec.structs.replace(streams[row], **{key: getattr(after.streams[row], key) for key in keys})
        return after == msgspec.structs.replace(before, streams=tuple(streams))

    return same


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
    log.info("configuration written", file=str(file))
