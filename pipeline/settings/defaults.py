"""A run without a configuration: everything is the default, and streams are named after their sources."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from engines.spec import load_model
from pipeline.settings.redact import redact
from pipeline.settings.schema import GALLERY, Config, ModelSettings, StreamSettings

MAX_NAME: Final = 56  # characters, of 64: a number may come after them


def config_of(sources: Sequence[str], model: str | None = None) -> Config:
    """The configuration of a run of these sources alone, each a file, an address or a camera's index.

    ``model`` is a model folder or a released model's name; None: the default one.
    """
    names: list[str] = []
    for source in sources:
        name, number = stream_name(source), 1
        while (unique := name if number == 1 else f"{name}-{number}") in names:
            number += 1
        names.append(unique)
    pairs = zip(names, sources, strict=True)
    streams = tuple(StreamSettings(name=name, source=source) for name, source in pairs)
    return Config(streams=streams) if model is None else Config(streams=streams, model=ModelSettings(path=model))


def stream_name(source: str) -> str:
    """A stream's name after its source: a file's name, or an address' host and path; never a password or user.

    >>> stream_name("rtsp://ada:secret@10.0.0.7:554/live?token=abc")
    '10.0.0.7-554-live'
    >>> stream_name("clips/front door.mp4"), stream_name("0")
    ('front-door', 'camera0')
    """
    if source.isdecimal():
        return f"camera{source}"
    _, is_address, address = redact(source).partition("://")
    text = re.split(r"[?#]", address)[0].rpartition("@")[2] if is_address else Path(source).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:MAX_NAME].strip("-_.") or "stream"


def with_default_gallery(config: Config) -> Config:
    """The same run with the gallery ``people.sqlite`` where it names none, there is this file, and faces are named.

    Raises:
        ModelError: there is the file, but the run's model cannot be read.
    """
    gallery = config.identity.gallery
    if gallery is None and config.streams[0].forward is None and Path(GALLERY).is_file():
        tasks = load_model(config.model.path).spec.network.tasks
        gallery = GALLERY if {"faces", "identity"} <= set(tasks) else None
    identity = msgspec.structs.replace(config.identity, gallery=gallery or None)
    return msgspec.structs.replace(config, identity=identity)
