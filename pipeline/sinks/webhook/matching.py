"""Which events are told: the filter, and who the people in them are."""

from collections import OrderedDict
from datetime import datetime, time
from typing import Final

from pipeline.sinks.webhook.settings import WebhookSettings
from pipeline.wire.messages import EventMessage, FaceMessage, FrameMessage, Message

MAX_KNOWN: Final = 4096  # tracks that are remembered; the oldest go first
Track = tuple[str, int]  # stream and track


class KnownFaces:
    """Whose faces people have shown so far: a person's events do not tell, so it is learnt from all messages."""

    def __init__(self) -> None:
        self._names: OrderedDict[Track, str | None] = OrderedDict()  # of faces and persons that were seen

    def saw(self, message: Message) -> None:
        """Learn from a message; of an event before it is looked up, of a track's end after it."""
        if isinstance(message, FrameMessage):
            for face in message.faces:
                self._learn(message.stream, face)
        elif isinstance(message, EventMessage) and message.best_face is not None:
            self._learn(message.stream, message.best_face)

    def name(self, message: EventMessage) -> tuple[bool, str | None]:
        """Return whether a face of an event's person was seen, and the name it had last."""
        if message.kind == "identity":
            return True, message.label
        key = message.stream, message.track or 0
        if message.kind == "scene" or key not in self._names:
            return message.kind == "face", None
        return True, self._names[key]

    def _learn(self, stream: str, face: FaceMessage) -> None:
        name = None if face.identity is None else face.identity.name
        for track in (face.track, face.object):
            if track is not None:
                key = stream, track
                # Who was known stays known while his face is turned away, and when his name is told to have ended.
                self._names[key] = name or self._names.get(key)
                self._names.move_to_end(key)
        while len(self._names) > MAX_KNOWN:
            self._names.popitem(last=False)


class Filter:
    """Decides which events are told. Pure but for what it remembers of the events before."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._hours = [tuple(map(time.fromisoformat, span.split("-"))) for span in settings.hours]
        self._told_s: OrderedDict[tuple[str | None, ...], float] = OrderedDict()
        self._faces = KnownFaces()

    def takes(self, message: Message, now: datetime, clock_s: float) -> bool:
        """Return whether a message is told.

        Args:
            message: the next of the run: frames and health are none that are told, but who is who is learnt from them.
            now: the time of day.
            clock_s: that only ever grows.
        """
        self._faces.saw(message)
        if not isinstance(message, EventMessage):
            return False
        return self._wanted(message) and self._person(message) and self._at(now.time()) and self._due(message, clock_s)

    def _wanted(self, message: EventMessage) -> bool:
        wanted = self._settings
        place = message.name if message.kind in ("zone", "line") else None
        score = message.score if message.score is not None else message.best_score
        return (
            _in(message.stream, wanted.streams)
            and _in(message.kind, wanted.kinds)
            and _in(message.event, wanted.events)
            and _in(message.label, wanted.labels)
            and _in(place, wanted.zones)
            and (score or 0.0) >= wanted.min_score
        )

    def _person(self, message: EventMessage) -> bool:
        seen, name = self._faces.name(message)
        wanted = self._settings
        if name is not None and name in wanted.household:
            return False
        if wanted.names and name not in wanted.names:
            return False
        return wanted.face is None or (seen and (name is not None) == (wanted.face == "known"))

    def _at(self, now: time) -> bool:
        spans = (
            (now >= begin and now < end) if begin < end else (now >= begin or now < end) for begin, end in self._hours
        )
        return not self._hours or any(spans)

    def _due(self, message: EventMessage, clock_s: float) -> bool:
        every_s = self._settings.every_s
        if not every_s:
            return True
        key = message.stream, message.kind, message.label, message.name
        while self._told_s and clock_s - next(iter(self._told_s.values())) >= every_s:
            self._told_s.popitem(last=False)
        if key in self._told_s:
            return False
        self._told_s[key] = clock_s
        return True


def _in(value: str | None, wanted: tuple[str, ...]) -> bool:
    return not wanted or value in wanted
