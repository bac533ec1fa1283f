"""Trunkline's own topics: ``<prefix>/<stream>/...``; docs/mqtt.md has an example of each."""

from collections import Counter
from typing import Any, Final, Protocol

import msgspec

from pipeline.settings.schema import StreamSettings
from pipeline.sinks.mqtt.outbox import Outbox
from pipeline.sinks.mqtt.settings import MqttSettings
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage, Message, encode

NOBODY: Final = {"names": [], "unknown": 0}
_json = msgspec.json.Encoder(order="deterministic")


def level(name: str) -> str:
    """A label or name as one level of a topic, in which MQTT does not allow ``/ + #``."""
    return name.translate({ord(mark): "_" for mark in "/+#\0"}) or "_"


def as_json(value: Any) -> bytes:
    """JSON whose text is the same whenever the value is."""
    return _json.encode(value)


class Dialect(Protocol):
    """What turns messages into topics."""

    available: str  # the topic that says whether Trunkline is there

    def begin(self, stream: StreamSettings) -> None:
        """What is told of a stream before its first message; of one that was changed, its former zones are no more."""
        ...

    def tell(self, message: Message) -> None:
        """Take one message."""
        ...

    def forget(self, stream: str) -> None:
        """A stream was removed: the broker keeps nothing of it."""
        ...

    def roots(self) -> set[str]:
        """The topics below which all state is this run's."""
        ...


class OwnTopics:
    """Turns messages into the state and events of Trunkline's own topics."""

    def __init__(self, settings: MqttSettings, outbox: Outbox) -> None:
        self._prefix, self._out = settings.root, outbox
        self._told, self._snapshots = settings.labels, settings.snapshots
        self._labels: dict[str, set[str]] = {}  # of each stream: those whose counts were told
        self.available = f"{self._prefix}/status"

    def root(self, stream: str) -> str:
        """Where the topics of a stream are."""
        return f"{self._prefix}/{stream}"

    def begin(self, stream: StreamSettings) -> None:
        self._known(stream.name)
        for kind in ("zone", "line"):
            self._out.clear(f"{self.root(stream.name)}/{kind}")
        for zone in stream.zones:
            self._out.set(f"{self.root(stream.name)}/zone/{zone.name}", as_json({"total": 0, "present": {}}))

    def tell(self, message: Message) -> None:
        self._known(message.stream)
        match message:
            case FrameMessage():
                self._frame(message)
            case EventMessage():
                self._event(message)
            case HealthMessage():
                self._health(message)

    def forget(self, stream: str) -> None:
        self._labels.pop(stream, None)
        self._out.clear(self.root(stream))

    def roots(self) -> set[str]:
        return {self.root(stream) for stream in self._labels.copy()}

    def _known(self, stream: str) -> None:
        if stream not in self._labels:
            self._labels[stream] = set(self._told)
            self._nothing_seen(stream)

    def _nothing_seen(self, stream: str) -> None:
        self._counts(stream, Counter())
        self._out.set(f"{self.root(stream)}/people", as_json(NOBODY))
        self._out.set(f"{self.root(stream)}/scene", as_json({"label": None}))

    def _counts(self, stream: str, counts: Counter[str]) -> None:
        self._labels[stream] |= counts.keys()
        for label in self._labels[stream]:
            self._out.set(f"{self.root(stream)}/count/{level(label)}", str(counts[label]))

    def _frame(self, message: FrameMessage) -> None:
        root = self.root(message.stream)
        self._counts(message.stream, Counter(each.label for each in message.objects))
        names = sorted({face.identity.name for face in message.faces if face.identity is not None})
        unknown = sum(face.identity is None for face in message.faces)
        self._out.set(f"{root}/people", as_json({"names": names, "unknown": unknown}))
        self._out.set(f"{root}/scene", as_json({"label": message.scene[0].label if message.scene else None}))

    def _event(self, message: EventMessage) -> None:
        root = self.root(message.stream)
        self._out.say(f"{root}/event", encode(msgspec.structs.replace(message, best_crop=None), "json"))
        if message.kind == "zone" and message.counts is not None:
            present = message.counts.get("present", {})
            value = {"total": sum(present.values()), "present": present}
            self._out.set(f"{root}/zone/{message.name}", as_json(value))
        elif message.kind == "line" and message.counts is not None:
            self._out.set(f"{root}/line/{message.name}", as_json(message.counts))
        elif message.kind == "identity" and message.event != "ended":
            self._out.set(f"{root}/last_person", as_json({"name": message.label, "at": message.captured_at}))
        if self._snapshots and message.best_crop is not None:
            shown = "face" if message.kind in ("face", "identity") else message.label
            self._out.set(f"{root}/snapshot/{level(shown or 'face')}", message.best_crop.jpeg)

    def _health(self, message: HealthMessage) -> None:
        if message.state != "up":
            self._nothing_seen(message.stream)
        fields = ("state", "cause", "at", "captured", "published", "dropped")
        value = {field: getattr(message, field) for field in fields}
        self._out.set(f"{self.root(message.stream)}/health", as_json(value))
