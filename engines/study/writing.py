"""What the pages of all studies share: files written whole, filled lines, short numbers."""

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

WIDTH = 120  # of a page's lines


def write_text(path: Path, text: str) -> None:
    """Write a file; one that is there is replaced when the new one is whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same for bytes."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def filled(text: str) -> str:
    """A paragraph, or a list's point, in lines of :data:`WIDTH`."""
    indent = "  " if text.startswith("* ") else ""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def in_code(names: Iterable[str]) -> str:
    """Names in Markdown's code, with commas."""
    return ", ".join(f"`{name}`" for name in names)


def short(count: float) -> str:
    """Three digits and a unit.

    >>> short(4_660_000), short(999)
    ('4.66 M', '999')
    """
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:g}"
