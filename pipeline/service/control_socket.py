"""How another process of this user changes a run: a Unix socket, a request and an answer of one line each, JSON.

The page's server is such a process. The socket lies in a folder that this user alone may enter; nothing else guards it.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self

import msgspec

from engines.errors import ConfigError, RequestError, TrunklineError
from pipeline.service.control import SWITCHES
from pipeline.service.reloading import Reloadable, Reloaded
from pipeline.settings.explain import RefusedError, converted
from pipeline.settings.schema import StreamSettings, Switch

MAX_LINE: Final = 1_000_000  # bytes
ANSWER_S: Final = 150.0  # that a change may take: a source may hang for its timeout_s, and others may wait before it
READ_S: Final = 5.0  # for the request itself

Switches = dict[str, dict[Switch, bool]]  # by stream


class AddStream(msgspec.Struct, frozen=True, tag=True):
    """Capture one stream more."""

    settings: StreamSettings


class ChangeStream(msgspec.Struct, frozen=True, tag=True):
    """Capture a stream by other settings."""

    name: str
    keys: dict[str, Any]  # as a configuration has them; null: as if it were left out


class RemoveStream(msgspec.Struct, frozen=True, tag=True):
    """Capture a stream no longer."""

    name: str


class SetSwitch(msgspec.Struct, frozen=True, tag=True):
    """Switch something of a stream."""

    name: str
    what: Switch
    on: bool


class Tune(msgspec.Struct, frozen=True, tag=True):
    """Go on by other thresholds and rates."""

    keys: dict[str, Any]  # such as inference.fps; null: as if it were left out


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Read the configuration again."""


class LookOnly(msgspec.Struct, frozen=True, tag=True):
    """Change nothing."""


Request = AddStream | ChangeStream | RemoveStream | SetSwitch | Tune | Reload | LookOnly


class ControlAnswer(msgspec.Struct, frozen=True):
    """What became of a request, and which streams there are then; no settings, which may hold passwords."""

    error: str | None = None
    switches: Switches = {}
    tuning: dict[str, Any] = {}  # by key; none once the run is over
    reloaded: Reloaded | None = None


_requests = msgspec.json.Decoder(Request)
_answers = msgspec.json.Decoder(ControlAnswer)


class Controllable(Reloadable, Protocol):
    """What changes a run, as :class:`pipeline.service.control.Control`."""

    def is_on(self, stream: str, what: Switch) -> bool: ...
    def switch(self, stream: str, what: Switch, on: bool) -> None: ...


class ControlSocket:
    """Lets processes of this user change a run.

    Args:
        path: of the socket, in a folder of this user alone.
        control: of the run.
        reload: reads the configuration again; None: the run has no file of it.
    """

    def __init__(self, path: Path, control: Controllable, reload: Callable[[], Reloaded] | None = None) -> None:
        self._control, self._reload = control, reload
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        """Take no more requests."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # closing alone wakes nobody
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(connection,), name="control request", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(READ_S)
            with connection.makefile("rb") as lines:
                line = lines.readline(MAX_LINE)
            connection.sendall(msgspec.json.encode(self._answer(line)) + b"\n")

    def _answer(self, line: bytes) -> ControlAnswer:
        error = reloaded = None
        try:
            reloaded = self._carry_out(_requests.decode(line))
        except msgspec.MsgspecError as refusal:
            error = f"the request does not follow its form: {refusal}"
        except TrunklineError as refusal:
            error = str(refusal)
        control = self._control
        streams = (*control.streams(), *control.paused())
        switches: Switches = {
            stream.name: {what: control.is_on(stream.name, what) for what in SWITCHES} for stream in streams
        }
        return ControlAnswer(error, switches, control.tuning(), reloaded)

    def _carry_out(self, request: Request) -> Reloaded | None:
        control = self._control
        match request:
            case AddStream(settings):
                control.add(settings)
            case ChangeStream(name, keys):
                control.change(self._changed(name, keys))
            case RemoveStream(name):
                control.remove(name)
            case SetSwitch(name, what, on):
                control.switch(name, what, on)
            case Tune(keys):
                control.tune(keys)
            case Reload():
                if self._reload is None:
                    raise ConfigError("the run has no configuration file that could be read again")
                return self._reload()
            case LookOnly():
                pass
        return None

    def _changed(self, name: str, keys: dict[str, Any]) -> StreamSettings:
        control = self._control
        known = {stream.name: stream for stream in (*control.streams(), *control.paused())}
        if name not in known:
            raise ConfigError(f"stream {name!r} cannot be changed: there is none of this name")
        return changed(known[name], keys)


def changed(settings: StreamSettings, keys: dict[str, Any]) -> StreamSettings:
    """Return the settings of a stream with other values of some keys, None: their defaults; ConfigError for wrong ones.

    >>> changed(StreamSettings(name="door", source="0", loop=True), {"loop": None, "timeout_s": 2}).timeout_s
    2.0
    """
    values = msgspec.to_builtins(settings, enc_hook=str) | keys
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return converted(StreamSettings, given, given, ())
    except RefusedError as error:
        raise ConfigError(f"stream {settings.name!r}: {error}") from None


def ask(path: Path, request: Request) -> ControlAnswer:
    """Have a request carried out by the run behind a socket.

    Raises:
        ConfigError: the run refuses it, and nothing has changed.
        RequestError: 503; nobody answers at the socket.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as lines:
                answer = _answers.decode(lines.readline())
    except (OSError, msgspec.MsgspecError) as error:
        raise RequestError(503, f"the run does not answer: {error}") from error
    if answer.error is not None:
        raise ConfigError(answer.error)
    return answer
