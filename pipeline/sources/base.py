"""What a source is, and how an address finds its own.

A package brings a source with one class and one line of metadata: docs/extending.md.
"""

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple, Protocol

from engines.errors import SourceError
from pipeline.frames.picture import Picture
from pipeline.settings.entry_points import load_from, names_of
from pipeline.settings.schema import StreamSettings
from pipeline.wire.remote import Origin

GROUP: Final = "trunkline.sources"  # the entry points
DEVICES: Final = ("/dev/video", "/dev/v4l/")  # of Video4Linux: by number, and by lasting names
FILE, CAMERA, URL = "file", "camera", "url"  # the names that are no scheme of an address


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture that a source gives."""

    picture: Picture
    source_s: float | None  # the source's own time of it; None: it has none, or is live
    codec: str  # for people to read
    origin: Origin | None = None  # where another host captured it
    step_s: float | None = None  # the time of one picture where the codec or the container tells it
    notes: tuple[str, ...] = ()  # what is unusual about the source, for people
    damaged: bool = False  # it is shown though parts of it could not be decoded
    bursts: bool = False  # pictures come in bursts, and are to be shown by their own times
    came_s: float | None = None  # when its packet did, time.monotonic(), where it was read ahead
    packet: object | None = None  # marks the packet that it came of: its ``opaque``
    rotation: Literal[0, 90, 180, 270] = 0  # by which its pixels were turned clockwise

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.picture.width, self.picture.height


@dataclass(frozen=True, slots=True)
class Lost:
    """A live source gives no pictures at present though it stays open; told again as long as that lasts."""

    cause: str


@dataclass(frozen=True, slots=True)
class Missed:
    """Pictures that the source has, and that are not shown."""

    count: int
    cause: Literal["undecodable", "damaged", "encrypted"]


class Incomplete(SourceError):
    """A file ended before its end: what came of it was all that could be read."""


Given = Decoded | Missed | Lost


class Source(Protocol):
    """Where the pictures of one stream come from.

    ``live``: any end of it is a loss, it is opened again for as long as the run lasts, and the newest picture wins.
    Otherwise it is a file: it ends, or begins again with ``loop``, and waits until there is room for its next picture.
    """

    @property
    def live(self) -> bool:
        """Of this stream."""
        ...

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a run begins; a live source may come later.

        Raises:
            SourceError: the source cannot be played; the sentence goes on after the address.
            ConfigError: its settings cannot be used.
        """
        ...

    def read(self, stop: threading.Event) -> Generator[Given, None, None]:
        """Open it and give its pictures until it ends or ``stop`` is set; whatever is open is closed in the end.

        A read must end with the stream's ``timeout_s``, or nothing can stop it.

        Raises:
            SourceError: it cannot be opened or read, or stalls.
        """
        ...

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """The room that a picture takes in shared memory, of a live source one of the ``largest`` (width, height)."""
        ...


class SourceClass(Protocol):
    """What an entry point names, under the scheme of the addresses that it takes: ``scheme`` of ``scheme://...``."""

    live: ClassVar[bool]

    def __call__(self, settings: StreamSettings) -> Source:
        """The source of a stream; nothing is opened yet."""
        ...


def source_class(address: str) -> SourceClass:
    """What takes an address: a scheme's own source, a camera, another URL, or a file.

    Raises:
        ConfigError: the package that brings it cannot be imported.
    """
    found: SourceClass = load_from(GROUP, source_name(address))
    return found


def source_name(address: str) -> str:
    """The name of the entry point that takes an address."""
    scheme, is_url, _ = address.partition("://")
    if is_url:
        scheme = scheme.partition("+")[0].lower()  # zmq+tcp
        if scheme == FILE:
            return FILE
        return scheme if scheme in names_of(GROUP) and scheme not in (FILE, CAMERA, URL) else URL
    return CAMERA if address.isdecimal() or address.startswith(DEVICES) else FILE


def open_source(settings: StreamSettings) -> Source:
    """The source of a stream."""
    return source_class(settings.source)(settings)


def yuv_bytes(width: int, height: int) -> int:
    """The room that a picture of YUV 4:2:0 takes."""
    return width * height + 2 * ((width + 1) // 2 * ((height + 1) // 2))


class Timed(NamedTuple):
    """A picture and its stream time."""

    picture: Picture
    time_s: float
    due_s: float | None = None  # time.monotonic() when it was due; None: when it came
    origin: Origin | None = None  # where another host captured it
    given: Decoded | None = None  # what the source gave


Pictures = Generator[Timed | Missed, None, None]


def check_room(picture: Picture, room_bytes: int | None) -> None:
    """Refuse a picture that shared memory has no room for, with a SourceError."""
    if room_bytes is not None and picture.nbytes > room_bytes:
        raise SourceError(
            f"a picture of {picture.width}x{picture.height} takes {picture.nbytes} bytes, more than the {room_bytes} "
            "that there is room for: set zmq.live_picture to its size"
        )
