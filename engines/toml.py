"""TOML of anybody: what the parser of the standard library cannot take in little time and stack is refused."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

MAX_BYTES: Final = 2**20  # of a file; a thousand streams with zones have half of it
MAX_DOTS: Final = 31  # in a row of names: the time of the parser grows with their square

# Possessive, and beginning only where a name does, so that looking takes time linear in the text.
_NAME: Final = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_LONG_KEY: Final = re.compile(rf"(?<![\w-])(?:{_NAME}[ \t]*+\.[ \t]*+){{{MAX_DOTS + 1}}}")


class TomlError(ValueError):
    """A text is not TOML, or more of it than anybody needs; one line that says what it is not."""


def parse_toml(text: str) -> dict[str, Any]:
    """Return the content of a TOML text.

    Raises:
        TomlError: it is not TOML, too long, nested too deeply, or has a number that is too long.
    """
    if len(text) > MAX_BYTES:
        raise TomlError(f"has more than {MAX_BYTES} bytes")
    if _LONG_KEY.search(text):
        raise TomlError(f"is not valid TOML here: more than {MAX_DOTS} dots in a row of names")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise TomlError("is not valid TOML here: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one; a number of thousands of digits gives a plain one
        raise TomlError(f"is not valid TOML: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        OSError: it cannot be read.
        TomlError: as of :func:`parse_toml`, or it is not text in UTF-8.
    """
    return parse_toml(read_toml_text(path))


def read_toml_text(path: Path) -> str:
    """Return the text of a file that should be TOML; OSError or TomlError where it cannot be read or is no text."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)  # a device, too, has an end here
    if len(content) > MAX_BYTES:
        raise TomlError(f"has more than {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise TomlError(f"is not valid TOML: {error}") from None
