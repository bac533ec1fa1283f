"""Pictures in a folder, or of a pattern of names: a file, at a stated rate."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from engines.errors import SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.address import NUMBERED, local_path

RATE_HZ: Final = 25.0  # unless the settings state another: FFmpeg's
SUFFIXES: Final = (".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_DIGITS: Final = re.compile(r"(\d+)")


def pictures_of(settings: StreamSettings) -> Iterator[StreamSettings]:
    """The settings of each picture of a stream, in the order of their names, numbers by their value.

    Raises:
        SourceError: there are none.
    """
    folder = local_path(settings.source)
    assert folder is not None
    if folder.is_dir():
        paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
        missing = f"is a folder without pictures ({', '.join(SUFFIXES)})"
    else:
        name = re.compile(_pattern(folder.name))
        paths = [path for path in folder.parent.glob("*") if name.fullmatch(path.name)]
        missing = "is a pattern that no file has the name of"
    if not paths:
        raise SourceError(missing)
    for path in sorted(paths, key=_by_number):
        yield msgspec.structs.replace(settings, source=str(path), live=False)


def _pattern(name: str) -> str:
    before, number, after = name.partition(match[0] if (match := NUMBERED.search(name)) else "")
    width = number.strip("%d").lstrip("0")
    digits = rf"\d{{{width},}}" if width else r"\d+"
    return f"{re.escape(before)}{digits}{re.escape(after)}"


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    parts = _DIGITS.split(path.name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
