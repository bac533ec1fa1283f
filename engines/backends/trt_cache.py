"""Built engines, kept on disk: building takes minutes, loading does not.

An engine belongs to one network, one TensorRT, one kind of GPU, one precision and one range of batches. All of that is
its name, so that it is built again when anything differs; and its checksum is in it, so that it is built again when it
is damaged.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from engines.errors import EngineError
from engines.files import write_whole
from engines.undecodable import UNDECODABLE

log = structlog.get_logger()

Loaded = TypeVar("Loaded")

FORMAT: Final = 1


class EngineKey(msgspec.Struct, frozen=True, kw_only=True):
    """All that an engine depends on."""

    network: str  # SHA-256 of what TensorRT's parser is given
    tensorrt: str  # version
    gpu: str  # name
    capability: str
    precision: str
    shapes: tuple[tuple[int, ...], ...]  # of the input: least, best and greatest
    version_compatible: bool

    @property
    def name(self) -> str:
        """Return the name of its file without a suffix: 24 hex digits."""
        return hashlib.sha256(msgspec.json.encode((FORMAT, self))).hexdigest()[:24]


class Header(msgspec.Struct, frozen=True):
    """The first line of a file."""

    format: int
    sha256: str  # of all that follows
    key: EngineKey


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/trunkline/engines``, else the same in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trunkline" / "engines"


def cached(folder: Path, key: EngineKey, build: Callable[[], bytes], load: Callable[[bytes], Loaded | None]) -> Loaded:
    """Return the engine of a key: from its file, else built and written there.

    Two processes that need the same one at once build it once: the second waits for the first.

    Args:
        folder: of the files, made when missing.
        key: of the engine.
        build: makes it; what it raises is passed on, and nothing is written.
        load: gives it to TensorRT; None where that does not take it.

    Raises:
        EngineError: the folder cannot be written to, or TensorRT does not take what it has just built.
    """
    file = _file(folder, key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_suffix(".lock")):
            held = _read(file, key)
            engine = None if held is None else load(held)
            if engine is not None:
                return engine
            if held is not None:
                log.warning("TensorRT does not take a cached engine, it is built again", file=str(file))
            plan = build()
            write_whole(file, msgspec.json.encode(Header(FORMAT, hashlib.sha256(plan).hexdigest(), key)) + b"\n" + plan)
    except OSError as error:
        raise EngineError(f"the engine cache {folder} cannot be used: {error.strerror}") from error
    engine = load(plan)
    if engine is None:
        raise EngineError("TensorRT does not load the engine that it has just built")
    return engine


def is_cached(folder: Path, key: EngineKey) -> bool:
    """Return whether there is a file of this key; it may be damaged."""
    return _file(folder, key).is_file()


def forget(folder: Path, key: EngineKey) -> None:
    """Delete the file of this key, if there is one."""
    _file(folder, key).unlink(missing_ok=True)


def read_timing(folder: Path, key: EngineKey) -> bytes:
    """Return the kernel timings of earlier builds with this TensorRT on such a GPU; empty without any."""
    try:
        return _timing(folder, key).read_bytes()
    except OSError:
        return b""


def write_timing(folder: Path, key: EngineKey, measured: bytes) -> None:
    """Keep them. Of two builds at once the later one's stay: they only save time."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(_timing(folder, key), measured)


def _file(folder: Path, key: EngineKey) -> Path:
    return folder / f"{key.name}.engine"


def _timing(folder: Path, key: EngineKey) -> Path:
    name = hashlib.sha256(msgspec.json.encode((key.tensorrt, key.gpu, key.capability))).hexdigest()[:24]
    return folder / f"{name}.timing"


def _read(file: Path, key: EngineKey) -> bytes | None:
    """Return the engine in a file; None unless it is there, undamaged, and the one of the key."""
    try:
        line, _, plan = file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        header = msgspec.json.decode(line, type=Header)
    except UNDECODABLE:
        header = None
    if header is None or header.sha256 != hashlib.sha256(plan).hexdigest() or header.key != key:
        log.warning("a cached engine is damaged, and is built again", file=str(file))
        return None
    return plan


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock that a process loses when it ends, however it ends."""
    with file.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
