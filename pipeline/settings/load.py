"""A configuration, read from a TOML file."""

import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engines.errors import ConfigError
from engines.toml import TomlError, parse_toml, read_toml_text
from pipeline.settings import sinks
from pipeline.settings.check import RefusedError, check, shown
from pipeline.settings.redact import HIDDEN, FromVariable, user_encoded
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


Key = tuple[str | int, ...]
RENAMED_KEYS = {"staleness_ms": "max_queue_delay_ms", "unsure_share": "low_score_ratio", "rate": "fps"}
_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


def _fill(node: Any, environment: Mapping[str, str], key: Key) -> Any:
    """A copy of the parsed file with its variables replaced."""
    if isinstance(node, dict):
        return {name: _fill(child, environment, (*key, name)) for name, child in node.items()}
    if isinstance(node, list):
        return [_fill(child, environment, (*key, index)) for index, child in enumerate(node)]
    if isinstance(node, float) and not math.isfinite(node):
        raise RefusedError(f"{_text(key)} is {node}, but must be a finite number")
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if not (match[0].endswith("}") and name.isidentifier()):
            raise RefusedError(f"{_text(key)} has a ${{ without the name of a variable and a closing brace after it")
        if name not in environment:
            raise RefusedError(f"{_text(key)} needs the environment variable {name}, which is not set")
        value = environment[name]
        if not _is_unicode(value):  # bytes of the environment that are no text
            raise RefusedError(f"{_text(key)} needs the environment variable {name}, which is not text in UTF-8")
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
            raise RefusedError(f"{_text((*at, key))} is not a key of a sink {kind!r}; the keys here are {names}")
    return converted(settings, own, sinks.own_part(written), at)


Read = TypeVar("Read", bound=msgspec.Struct)


def converted(kind: type[Read], filled: Any, written: Any, at: Key) -> Read:
    """Return a struct of what stands at a key; RefusedError with the key, what stands there and what may."""
    try:
        return msgspec.convert(filled, kind)
    except msgspec.ValidationError as error:
        # msgspec says where ("... - at `$.streams[1].pace`"); the value and what is allowed there are added here.
        why, _, where = str(error).rpartition(" - at `$")
        key = tuple(name or int(index) for name, index in _STEP.findall(where.rstrip("`")))
        raise RefusedError(_explain(kind, at, key, written, why or str(error))) from None


def _explain(root: type[msgspec.Struct], at: Key, key: Key, written: Any, why: str) -> str:
    """The sentence for the value at ``key`` of what is at ``at``, as it is written in the file: variables stay names.

    Where the types are right, and the struct itself refuses the values, ``why`` says so in its words.
    """
    kind = _type_info(root)
    value = written
    for step in key:
        value = value[step]
        kind = _below(kind, step)
    key = (*at, *key)
    if isinstance(kind, msgspec.inspect.UnionType) and isinstance(value, dict):  # a table that may be left out
        kind = next(one for one in kind.types if isinstance(one, msgspec.inspect.StructType))
    if isinstance(kind, msgspec.inspect.StructType) and isinstance(value, dict):
        return _explain_keys(key, kind, value, why)
    told = HIDDEN if key[-1:] == ("password",) else shown(value)
    return f"{_text(key)} is {told}, but must be {_allowed(kind)}"


@cache  # it takes longer than the rest of a sentence
def _type_info(root: type[msgspec.Struct]) -> msgspec.inspect.Type:
    return msgspec.inspect.type_info(root)


def _below(kind: msgspec.inspect.Type, step: str | int) -> msgspec.inspect.Type:
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            return _below(inner, step)
        case msgspec.inspect.UnionType(types=types):  # of one type and nothing
            return _below(next(one for one in types if not isinstance(one, msgspec.inspect.NoneType)), step)
        case msgspec.inspect.StructType(fields=fields):
            return next(field.type for field in fields if field.encode_name == step)
        case msgspec.inspect.TupleType(item_types=items):
            assert isinstance(step, int)
            return items[step]
        case _:
            assert isinstance(kind, msgspec.inspect.VarTupleType)
            return kind.item_type


def _explain_keys(key: Key, kind: msgspec.inspect.StructType, found: dict[str, Any], why: str) -> str:
    names = [field.encode_name for field in kind.fields]
    for name in found:
        if (now := RENAMED_KEYS.get(name)) in names:
            return f"{_text((*key, name))} has a new name: it is {_text((*key, now))} now, and means the same"
        if name not in names:
            return f"{_text((*key, name))} is not a key of this configuration; the keys here are {', '.join(names)}"
    missing = next((field for field in kind.fields if field.required and field.encode_name not in found), None)
    if missing is None:
        return f"{_text(key)} cannot be used: {why}"
    return f"{_text((*key, missing.encode_name))} is missing; it must be {_allowed(missing.type)}"


def _allowed(kind: msgspec.inspect.Type) -> str:
    """What a value of this type may be, in words."""
    match kind:
        case msgspec.inspect.Metadata(type=inner, extra_json_schema=schema):
            return str(schema["description"]) if schema and "description" in schema else _allowed(inner)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(_allowed(one) for one in types if not isinstance(one, msgspec.inspect.NoneType))
        case msgspec.inspect.LiteralType(values=values):
            return "one of " + ", ".join(f"{value!r}" for value in values)
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return _allowed_number(kind)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.TupleType(item_types=items):
            return f"an array of {len(items)}"
        case msgspec.inspect.VarTupleType(min_length=least):
            return f"an array of {'one table or more' if least else 'tables'}"
        case msgspec.inspect.StructType():
            return "a table"
        case _:
            return "text in quotes"


def _allowed_number(kind: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
    bounds = {"above": kind.gt, "at least": kind.ge, "below": kind.lt, "at most": kind.le}
    limits = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    return f"{noun} {limits}".rstrip()


def _text(key: Key) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key).lstrip(".")
