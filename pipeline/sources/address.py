"""What a stream's source is: a file of this host, a pipe, pictures, or an address; and how FFmpeg is told of it."""

import re
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pipeline.settings.schema import STANDARD_INPUT, StreamSettings

FILE_SCHEME: Final = "file:/"  # RFC 8089: with or without an authority
NUMBERED: Final = re.compile(r"%(0\d+)?d")  # of printf, as FFmpeg's image2 has it


def local_path(source: str) -> Path | None:
    """The path of a file of this host, ``~`` expanded; None for any other address, and for the standard input.

    >>> local_path("file:///clips/front%20door.mp4"), local_path("rtsp://cam/1"), local_path("12:30.mp4")
    (PosixPath('/clips/front door.mp4'), None, PosixPath('12:30.mp4'))
    """
    if source.lower().startswith(FILE_SCHEME):
        written = Path("/" + source[len(FILE_SCHEME) :].removeprefix("/").removeprefix("localhost").removeprefix("/"))
        return written if "%" not in source or written.exists() else Path(unquote(str(written)))
    if "://" in source or source == STANDARD_INPUT:
        return None
    return Path(source).expanduser()


def is_pipe(source: str) -> bool:
    """Whether a source can be read once only: a named pipe, or the standard input."""
    if source == STANDARD_INPUT:
        return True
    path = local_path(source)
    try:
        return path is not None and stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def is_pictures(source: str) -> bool:
    """Whether a source is a folder of pictures, or a pattern of their names such as ``shot-%04d.png``."""
    path = local_path(source)
    return path is not None and (path.is_dir() or (NUMBERED.search(path.name) is not None and not path.exists()))


def address_for_ffmpeg(settings: StreamSettings) -> str:
    """What FFmpeg opens, with the user name and the password of the settings, encoded."""
    path = local_path(settings.source)
    if path is not None:
        return f"file:{path}"  # or FFmpeg takes a colon in the name for a protocol
    source = str(settings.source)
    if settings.user is None and settings.password is None:
        return source
    scheme, _, rest = source.partition("://")
    secret = "" if settings.password is None else f":{quote(settings.password, safe='')}"
    return f"{scheme}://{quote(settings.user or '', safe='')}{secret}@{rest}"


def scheme_of(source: str) -> str:
    """The scheme of an address in small letters; of what has none, all of it."""
    return source.partition("://")[0].lower()


def path_of(source: str) -> str:
    """The path of an address in small letters; nothing where it has none, or cannot be understood."""
    try:
        return urlsplit(source).path.lower()
    except ValueError:
        return ""


def names_user(source: str) -> bool:
    """Whether an address has a user name or a password in it."""
    try:
        return "@" in urlsplit(source).netloc
    except ValueError:
        return "@" in source
