"""What the broker's clients may ask of a running pipeline: ``<prefix>/<stream>/<command>/set``."""

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
import structlog

from engines.errors import EnrollError, MessageError, TrunklineError
from engines.undecodable import UNDECODABLE
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.track_requests import Request, enroll_track
from pipeline.settings.schema import Config, Switch
from pipeline.sinks.base import StreamSwitches
from pipeline.sinks.mqtt.outbox import Outbox
from pipeline.sinks.mqtt.settings import Command, MqttSettings
from pipeline.sinks.mqtt.topics import as_json
from pipeline.wire.messages import FrameMessage

SWITCHES: Final[tuple[Switch, ...]] = ("detect", "record")
ON: Final = b"ON"
OFF: Final = b"OFF"
# What a command is called in topics: by dialect.
TOPICS: Final[dict[str, dict[Command, str]]] = {
    "trunkline": {"detect": "detect", "record": "record", "enroll": "enroll"},
    "frigate": {"detect": "detect", "record": "recordings", "enroll": "enroll"},
}
MAX_COMMAND: Final = 1000  # bytes
MAX_WAITING: Final = 8  # commands; what comes beyond is refused


class EnrollCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A track that is to be enrolled; without ``track`` the one face that has no name."""

    name: str
    track: int | None = None


class Commands:
    """Carries commands out, one after the other, in a thread of their own: some take seconds.

    Args:
        settings: which are allowed.
        config: of the run.
        switches: what of the run may be changed.
        outbox: gets the answers.
    """

    def __init__(self, settings: MqttSettings, config: Config, switches: StreamSwitches, outbox: Outbox) -> None:
        self._prefix, self._out, self._switches = settings.root, outbox, switches
        self._gallery = config.identity.gallery
        able: dict[Command, bool] = {
            "detect": True,
            "record": config.record.directory is not None,
            "enroll": bool(self._gallery),
        }
        self.allowed = tuple(command for command in settings.commands if able[command])
        if refused := sorted(set(settings.commands) - set(self.allowed)):
            structlog.get_logger().warning("MQTT commands are not taken", commands=refused, cause=_NEEDS)
        self._topics = TOPICS[settings.dialect]
        self._of_topic = {self._topics[command]: command for command in self.allowed}
        self._unnamed: dict[str, list[int]] = {}  # tracks of the faces in the last frame that have no name
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self._thread = ThreadPoolExecutor(1, "mqtt commands")

    def look(self, streams: Collection[str]) -> None:
        """Tell how the switches of some streams are, whoever set them."""
        for what in SWITCHES:
            if what in self.allowed:
                for stream in streams:
                    self._out.set(self._state(stream, what), ON if self._switches.is_on(stream, what) else OFF)

    def _state(self, stream: str, what: Switch) -> str:
        return f"{self._prefix}/{stream}/{self._topics[what]}/state"

    def saw(self, message: FrameMessage) -> None:
        """Remember whose faces have no name."""
        self._unnamed[message.stream] = [face.track for face in message.faces if face.identity is None]

    def is_paused(self, stream: str) -> bool:
        """Whether a stream ended because it was switched off."""
        return not self._switches.is_on(stream, "detect")

    def heard(self, topic: str, payload: bytes, streams: set[str]) -> None:
        """Take a message to a topic of commands; never waits."""
        stream, _, rest = topic.removeprefix(f"{self._prefix}/").partition("/")
        name, _, verb = rest.partition("/")
        command = self._of_topic.get(name)
        if verb != "set" or command is None or stream not in streams:
            return
        if len(payload) > MAX_COMMAND or not self._waiting.acquire(blocking=False):
            self._answer(stream, command, "it is too long, or others wait to be carried out")
            return
        self._thread.submit(self._carry_out, stream, command, payload)

    def close(self) -> None:
        """Carry out no more; what is under way ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _carry_out(self, stream: str, command: Command, payload: bytes) -> None:
        try:
            if command == "enroll":
                self._enroll(stream, payload)
            else:
                self._switch(stream, command, payload)
        except TrunklineError as error:
            self._answer(stream, command, str(error))
        except Exception:  # a bug, of which nobody else would hear: the thread keeps it to itself
            structlog.get_logger().exception("MQTT command failed", stream=stream, command=command)
            self._answer(stream, command, "it failed")
        finally:
            self._waiting.release()

    def _answer(self, stream: str, command: Command, refusal: str) -> None:
        self._out.say(f"{self._prefix}/{stream}/{self._topics[command]}/refused", refusal)

    def _switch(self, stream: str, what: Switch, payload: bytes) -> None:
        if payload not in (ON, OFF):
            raise MessageError(f"the command is {payload[:20].decode(errors='replace')!r}, but must be ON or OFF")
        self._switches.switch(stream, what, payload == ON)
        self.look((stream,))

    def _enroll(self, stream: str, payload: bytes) -> None:
        command = _read(payload)
        track = command.track
        if track is None:
            unnamed = self._unnamed.get(stream, [])
            if len(unnamed) != 1:
                raise EnrollError(f"{len(unnamed)} faces without a name are there now, but must be 1, or name a track")
            (track,) = unnamed
        assert self._gallery
        with Gallery(self._gallery) as gallery:
            qualities = enroll_track(gallery, Request(stream, track, command.name, Terms(), keep_photos=False))
        said = {"name": command.name, "track": track, "views": len(qualities)}
        self._out.say(f"{self._prefix}/{stream}/enroll/done", as_json(said))


_NEEDS: Final = "record needs record.directory, enroll a gallery"


def _read(payload: bytes) -> EnrollCommand:
    if payload[:1] != b"{":
        try:
            return EnrollCommand(payload.decode())
        except UnicodeDecodeError:
            raise MessageError("the command is not text in UTF-8") from None
    try:
        return msgspec.json.decode(payload, type=EnrollCommand)
    except UNDECODABLE as error:
        raise MessageError(f"the command does not follow its form: {error}") from None
