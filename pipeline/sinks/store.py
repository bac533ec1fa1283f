"""Events into the event store."""

import time
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from engines.errors import ConfigError, StoreError
from pipeline.sinks.clips import ClipRecorder
from pipeline.sinks.stream_clips import ClipPlace, ClipSettings, Happened
from pipeline.store import CLIPS, EventStore, NewEvent, prune
from pipeline.wire.messages import EventMessage, FrameMessage, Message, encode

LOOK_S: Final = 60.0  # how often it is looked at what is to be deleted
GB: Final = 10**9


class StoreSettings(ClipSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where events go, and how long they are kept."""

    directory: str = "events"  # a folder of its own, made when it is missing


class StoreSink:
    """Keeps each event, with its best view as a picture; an event counts as sent once it outlives the program's death.

    Raises:
        ConfigError: the folder cannot be used, or too little of the disk is free.
    """

    Settings = StoreSettings
    look_s = LOOK_S

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        try:
            self._store = EventStore(Path(settings.directory).expanduser(), create=True)
        except StoreError as error:
            raise ConfigError(f"directory is {settings.directory!r}: {error}") from error
        self._looked_s = 0.0
        self._clips: ClipRecorder | None = None
        self._store.delete_orphans()
        prune(self._store, settings)
        if self._is_short():
            self._store.close()
            raise ConfigError(
                f"min_free_gb is {settings.min_free_gb:g}, but only {self._store.free() / GB:.1f} GB are free where "
                f"{settings.directory!r} lies"
            )

    def send(self, message: Message) -> None:
        """Store an event; StoreError where it cannot be, or too little of the disk is free."""
        if isinstance(message, FrameMessage) and self._clips is not None:
            self._clips.saw(message)
        if not isinstance(message, EventMessage):
            return
        if self._is_short():
            prune(self._store, self._settings)
            if self._is_short():
                raise StoreError(f"less than min_free_gb = {self._settings.min_free_gb:g} GB of the disk are free")
        event = stored_form(message)
        (number,) = self._store.add([event])
        if self._clips is not None:
            self._clips.happened(message.stream, Happened.of(number, event.at_ns, message))

    def read_packets(self, address: str) -> None:
        """Make clips of the packets that are sent there, if the settings want any."""
        if self._settings.clips:
            folder, attach = self._store.folder / CLIPS, self._store.attach_clip
            place = ClipPlace(self._settings, folder, attach, lambda: not self._is_short())
            self._clips = ClipRecorder(place, address)

    def look(self) -> None:
        """Delete what is not kept any longer, now and then."""
        if (now_s := time.monotonic()) - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._store.delete_orphans()
            prune(self._store, self._settings)

    def close(self) -> None:
        """Finish the clips, and close the store."""
        if self._clips is not None:
            self._clips.close()
        self._store.close()

    def _is_short(self) -> bool:
        return self._store.free() < self._settings.min_free_gb * GB


def stored_form(message: EventMessage) -> NewEvent:
    """Return an event as the store keeps it: columns to search, all of it as JSON, and its picture."""
    person = message.label if message.kind == "identity" else None
    if person is None and message.best_face is not None and message.best_face.identity is not None:
        person = message.best_face.identity.name
    return NewEvent(
        at_ns=round(datetime.fromisoformat(message.captured_at).timestamp() * 1000) * 1_000_000,
        stream=message.stream,
        event=message.event,
        kind=message.kind,
        track=message.track,
        label=message.label,
        person=person,
        place=message.name if message.kind in ("zone", "line") else None,
        score=message.best_score if message.score is None else message.score,
        body=encode(msgspec.structs.replace(message, best_crop=None), "json"),
        snapshot=None if message.best_crop is None else message.best_crop.jpeg,
    )
