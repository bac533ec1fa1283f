"""A configuration, read from a TOML file."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engines.errors import ConfigError
from engines.toml import TomlError, parse_toml, read_toml_text
from pipeline.settings import sinks
from pipeline.settings.check import check
from pipeline.settings.explain import Key, RefusedError, converted, key_text, shown
from pipeline.settings.redact import FromVariable, user_encoded
from pipeline.settings.schema import Config


def load(path: str | Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read a TOML configuration; ``${VARIABLE}`` inside a text value is replaced from the environment.

    Raises:
        ConfigError: one sentence with the file, the path of the key (``streams[1].pace``), the value found there
            and what is allowed. Values that came from a variable, and passwords in sources, are not shown, here
            or where a value of the configuration is refused later: it is shown as it is written.
    """
    try:
        text = read_toml_text(Path(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except TomlError as error:
        raise ConfigError(f"{path}: {error}") from error
    return parse(text, path, environment)


def parse(text: str, path: str | Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of a text, which errors call ``path``; otherwise as :func:`load`."""
    try:
        if not _is_unicode(text):
            raise TomlError("is not text in UTF-8")
        written = parse_toml(text)
        filled = _fill(written, environment, ())
        config = _convert(written, filled)
        check(config, written)
    except TomlError as error:
        raise ConfigError(f"{path}: {error}") from error
    except RefusedError as refusal:
        raise ConfigError(f"{path}: {refusal}") from None
    return config


_VARIABLE = re.compile(r"\$\{([^}]*)\}?")


def _fill(node: Any, environment: Mapping[str, str], key: Key) -> Any:
    """A copy of the parsed file with its variables replaced."""
    if isinstance(node, dict):
        return {name: _fill(child, environment, (*key, name)) for name, child in node.items()}
    if isinstance(node, list):
        return [_fill(child, environment, (*key, index)) for index, child in enumerate(node)]
    if isinstance(node, float) and not math.isfinite(node):
        raise RefusedError(f"{key_text(key)} is {node}, but must be a finite number")
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if not (match[0].endswith("}") and name.isidentifier()):
            raise RefusedError(f"{key_text(key)} has a ${{ without the name of a variable and a closing brace after it")
        if name not in environment:
            raise RefusedError(f"{key_text(key)} needs the environment variable {name}, which is not set")
        value = environment[name]
        if not _is_unicode(value):  # bytes of the environment that are no text
            raise RefusedError(f"{key_text(key)} needs the environment variable {name}, which is not text in UTF-8")
        return user_encoded(value, node, match.span()) if key[-1:] in (("source",), ("detect_source",)) else value

    filled = _VARIABLE.sub(value_of, node)
    # Names go into messages, as plain text.
    return filled if filled == node or key[-1:] == ("name",) else FromVariable(filled, node)


def _is_unicode(text: str) -> bool:
    """Whether a text can be written in UTF-8: it has no halves of characters."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _convert(written: dict[str, Any], filled: dict[str, Any]) -> Config:
    tables = filled.get("sinks", [])
    for index, table in enumerate(tables if isinstance(tables, list) else []):
        if isinstance(table, dict) and "kind" not in table:
            raise RefusedError(f"sinks[{index}].kind is missing; it must be {sinks.kinds()}")
    config = converted(Config, filled | {"sinks": sinks.common_part(tables)}, written, ())
    with_options = [
        msgspec.structs.replace(sink, options=_sink_options(index, sink.kind, written["sinks"][index], tables[index]))
        for index, sink in enumerate(config.sinks)
    ]
    return msgspec.structs.replace(config, sinks=tuple(with_options))


def _sink_options(index: int, kind: str, written: dict[str, Any], filled: dict[str, Any]) -> msgspec.Struct:
    """The keys of a sink's table that are its kind's own."""
    try:
        settings = sinks.settings_of(kind)
    except ConfigError as error:
        raise RefusedError(f"sinks[{index}].kind is {shown(written['kind'])}, which cannot be used: {error}") from None
    if settings is None:
        raise RefusedError(f"sinks[{index}].kind is {shown(written['kind'])}, but must be {sinks.kinds()}")
    at, own, known = ("sinks", index), sinks.own_part(filled), settings.__struct_encode_fields__
    for key in own:  # whether or not the struct refuses others itself
        if key not in known:
            names = ", ".join((*sinks.COMMON, *known))
            raise RefusedError(f"{key_text((*at, key))} is not a key of a sink {kind!r}; the keys here are {names}")
    return converted(settings, own, sinks.own_part(written), at)
