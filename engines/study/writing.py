"""Files that are replaced when the new ones are whole."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file; one that is there is replaced when the new one is whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same for bytes."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
