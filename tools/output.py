"""How verbs print JSON and write files."""

from pathlib import Path

import msgspec
import typer

from engines.errors import ConfigError
from engines.files import write_whole


def json_of(value: object) -> str:
    """Return JSON as ``--json`` prints it."""
    return msgspec.json.format(msgspec.json.encode(value)).decode()


def print_json(value: object) -> None:
    """Print what ``--json`` asks for."""
    typer.echo(json_of(value))


def write_file(path: Path, content: bytes, option: str = "") -> None:
    """Write a file, and the folders above it; one that is there is replaced when the new one is whole.

    Raises:
        ConfigError: it cannot be written; the sentence names ``option``, such as ``--out``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written: {error.strerror}".lstrip()) from None


def make_folder(path: Path, option: str) -> None:
    """Make a folder, if it is not there.

    Raises:
        ConfigError: it cannot be made; the sentence names ``option``.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be made a folder: {error.strerror}") from None
