"""The sink: messages become topics, which a connection brings to the broker."""

from collections import deque
from collections.abc import Mapping
from importlib.metadata import version

from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.base import StreamSwitches
from pipeline.sinks.mqtt import discovery
from pipeline.sinks.mqtt.commands import TOPICS, Commands
from pipeline.sinks.mqtt.connection import ONLINE, Connection
from pipeline.sinks.mqtt.frigate import FrigateTopics
from pipeline.sinks.mqtt.outbox import Outbox
from pipeline.sinks.mqtt.settings import MqttSettings, tls_context
from pipeline.sinks.mqtt.topics import Dialect, OwnTopics
from pipeline.wire.messages import FrameMessage, HealthMessage, Message


class MqttSink:
    """Keeps a broker's retained state as the run is, and tells it of each event at least once; docs/mqtt.md.

    A broker that is not there costs nothing but the events beyond ``events_kept``, the oldest: ``unsent``.

    Raises:
        ConfigError: the settings cannot be used together, or a file of keys cannot.
    """

    Settings = MqttSettings
    look_s = 0.5  # between two looks at switches, which others set, too

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        tls = tls_context(settings)
        self._out = Outbox(settings.events_kept)
        self._topics: Dialect = (FrigateTopics if settings.dialect == "frigate" else OwnTopics)(settings, self._out)
        self._commands: Commands | None = None
        self._zones: dict[str, set[str]] = {}  # of each stream that is there
        self._entities: dict[str, dict[str, str]] = {}  # of each: those that Home Assistant was told, their platforms
        self._found: deque[tuple[str, bytes]] = deque()  # devices that the broker had before they were told
        birth = (discovery.birth_topic(settings),) if settings.discovers else ()
        commands = tuple(f"{settings.root}/+/{TOPICS[settings.dialect][each]}/set" for each in settings.commands)
        self._connection = Connection(
            settings,
            tls,
            self._out,
            self._topics.available,
            birth + commands,
            self._heard,
            self._topics.roots,
            discovery.devices_root(settings) if settings.discovers else None,
            lambda topic, payload: self._found.append((topic, payload)),
        )

    def attach(self, config: Config, switches: StreamSwitches) -> None:
        """Learn what the run is, before its first message."""
        self._commands = Commands(self._settings, config, switches, self._out)
        for stream in config.streams:
            self.begin(stream)

    def begin(self, stream: StreamSettings) -> None:
        """Learn of a stream before its first message."""
        self._topics.begin(stream)
        self._zones[stream.name] = {zone.name for zone in stream.zones}
        self._tell_switches()
        self._discover(stream.name)

    def send(self, message: Message) -> None:
        """Take one message; never waits."""
        if isinstance(message, HealthMessage) and self._is_removal(message):
            self._forget(message.stream)
            return
        if message.stream not in self._zones:
            self.begin(StreamSettings(name=message.stream, source=""))
        if isinstance(message, FrameMessage) and self._commands is not None:
            self._commands.saw(message)
        self._topics.tell(message)

    def look(self) -> None:
        """Tell how the switches are, and take entities away that an earlier run has told."""
        self._tell_switches()
        streams = {discovery.config_topic(self._settings, stream): stream for stream in self._zones.copy()}
        while self._found:
            topic, payload = self._found.popleft()
            if (stream := streams.get(topic)) is not None:
                self._entities[stream] = discovery.entities(payload) | self._entities[stream]
                self._discover(stream)

    def _tell_switches(self) -> None:
        if self._commands is not None:
            self._commands.look(self._zones.copy())

    @property
    def lost(self) -> Mapping[str, int]:
        """Events that were taken and never sent, by cause."""
        return self._out.lost

    @property
    def state(self) -> Mapping[str, bytes]:
        """What the broker should keep now, by topic."""
        return self._out.state

    def close(self) -> None:
        """Send what waits, for two seconds at the most, and leave."""
        if self._commands is not None:
            self._commands.close()
        self._connection.close()

    def _is_removal(self, message: HealthMessage) -> bool:
        if (message.state, message.cause) != ("ended", "removed"):
            return False
        return self._commands is None or not self._commands.is_paused(message.stream)

    def _forget(self, stream: str) -> None:
        self._zones.pop(stream, None)
        self._entities.pop(stream, None)
        self._topics.forget(stream)
        if self._settings.discovers:
            self._out.clear(discovery.config_topic(self._settings, stream))

    def _discover(self, stream: str) -> None:
        if self._settings.discovers:
            commands = () if self._commands is None else self._commands.allowed
            told = self._entities.setdefault(stream, {})
            body = discovery.device(self._settings, stream, self._zones[stream], commands, version("trunkline"), told)
            told |= discovery.entities(body)
            self._out.set(discovery.config_topic(self._settings, stream), body)

    def _heard(self, topic: str, payload: bytes) -> None:
        """What the broker's clients say; in the thread of the connection."""
        if topic == discovery.birth_topic(self._settings):
            if payload == ONLINE:
                self._out.again([discovery.config_topic(self._settings, stream) for stream in self._zones.copy()])
        elif self._commands is not None:
            self._commands.heard(topic, payload, set(self._zones.copy()))
