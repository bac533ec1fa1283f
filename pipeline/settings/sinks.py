"""The ``[[sinks]]`` of a configuration: each has the keys that all have, and those of its kind."""

from typing import Any, Final

import msgspec

from engines.errors import ConfigError
from pipeline.settings.entry_points import load_from, names_of
from pipeline.settings.schema import Config

GROUP: Final = "trunkline.sinks"  # the entry points
COMMON: Final = ("kind", "name", "queue")
TAKEN: Final = ("publish", "record")  # the names of the sinks that sections of their own make


def common_part(tables: Any) -> Any:
    """The keys that all kinds have, table by table; what is no table stays, to be refused with all else."""
    if not isinstance(tables, list):
        return tables
    return [
        {key: value for key, value in table.items() if key in COMMON} if isinstance(table, dict) else table
        for table in tables
    ]


def own_part(table: dict[str, Any]) -> dict[str, Any]:
    """The keys of a table that are its kind's own."""
    return {key: value for key, value in table.items() if key not in COMMON}


def settings_of(kind: str) -> type[msgspec.Struct] | None:
    """The struct with a kind's own keys; None: there is no such kind.

    Raises:
        ConfigError: its package cannot be imported, or brings no settings.
    """
    if kind not in names_of(GROUP):
        return None
    settings = getattr(load_from(GROUP, kind), "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, msgspec.Struct)):
        raise ConfigError(f"{kind!r} of {GROUP} has no Settings, which must be a msgspec.Struct with its keys")
    return settings


def wants_packets(config: Config) -> bool:
    """Whether packets of the streams are sent: readers have an address, or a sink makes clips (``clips = true``)."""
    return config.packets.address is not None or any(getattr(sink.options, "clips", False) for sink in config.sinks)


def kinds() -> str:
    """In words, what a sink may be."""
    return "one of " + ", ".join(repr(name) for name in names_of(GROUP))
