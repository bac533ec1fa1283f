"""Files of a benchmark."""

from pathlib import Path

from engines.errors import ConfigError
from engines.study.writing import write_bytes


def write(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it; one that is there is replaced when the new one is whole.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
