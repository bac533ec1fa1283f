"""Structs of values as they are written; of wrong ones a sentence: the key, what is there, and what may be."""

import re
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

from pipeline.settings.redact import HIDDEN, redact

Key = tuple[str | int, ...]
RENAMED_KEYS: Final = {"staleness_ms": "max_queue_delay_ms", "unsure_share": "low_score_ratio", "rate": "fps"}
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
Read = TypeVar("Read", bound=msgspec.Struct)


class RefusedError(Exception):
    """Everything of the sentence but the file."""


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
    return f"{key_text(key)} is {told}, but must be {_allowed(kind)}"


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
            return f"{key_text((*key, name))} has a new name: it is {key_text((*key, now))} now, and means the same"
        if name not in names:
            return f"{key_text((*key, name))} is not a key of this configuration; the keys here are {', '.join(names)}"
    missing = next((field for field in kind.fields if field.required and field.encode_name not in found), None)
    if missing is None:
        return f"{key_text(key)} cannot be used: {why}"
    return f"{key_text((*key, missing.encode_name))} is missing; it must be {_allowed(missing.type)}"


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


def key_text(key: Key) -> str:
    """Return a key as it is told: ``streams[1].pace``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key).lstrip(".")


def shown(value: Any) -> str:
    """A value as it may be shown in a sentence."""
    match value:
        case str():
            return repr(redact(value))
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case []:
            return "empty"
        case list():
            return f"an array of {len(value)}"
        case _:
            return str(value)
