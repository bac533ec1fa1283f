"""The keys of ``[[sinks]] kind = "mqtt"``, and what types cannot say of them."""

import ssl
from typing import Annotated, Final, Literal

import msgspec

from engines.errors import ConfigError
from pipeline.wire.curve import is_loopback

_TOPIC: Final = r"^[^/+#\x00$]([^+#\x00]*[^/+#\x00])?\Z"
_IS: Final = "an MQTT topic without + and #, and without / at its ends"
Topic = Annotated[str, msgspec.Meta(pattern=_TOPIC, max_length=200, description=_IS)]
Prefix = Annotated[str, msgspec.Meta(pattern=rf"{_TOPIC}|^\Z", max_length=200, description=f'{_IS}, or "" for none')]
Command = Literal["detect", "record", "enroll"]


class MqttSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which broker, and what it is told."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None  # None: 8883 with tls, else 1883
    user: str | None = None
    password: str | None = None  # "${MQTT_PASSWORD}", from the environment
    tls: bool = False
    ca_file: str | None = None  # None: the system's
    cert_file: str | None = None  # this client's certificate ...
    key_file: str | None = None  # ... and its key; None: in cert_file
    insecure: bool = False  # a password to another host without TLS
    client_id: str | None = None  # None: a new one for each run
    dialect: Literal["trunkline", "frigate"] = "trunkline"
    prefix: Topic | None = None  # None: the dialect's name
    labels: tuple[str, ...] = ("person", "car", "dog", "cat")  # whose counts are told though none was seen yet
    snapshots: bool = True  # with events.best_crops
    discovery: Prefix = "homeassistant"  # Home Assistant's own; "": it is not told of devices
    commands: tuple[Command, ...] = ()  # that the broker's clients may give
    events_kept: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000  # while the broker is away; the oldest go first

    @property
    def root(self) -> str:
        """The first part of all topics."""
        return self.prefix or self.dialect

    @property
    def discovers(self) -> bool:
        """Whether Home Assistant is told of devices: their topics are those of the own dialect."""
        return bool(self.discovery) and self.dialect == "trunkline"

    @property
    def broker_port(self) -> int:
        """Where the broker listens."""
        return self.port or (8883 if self.tls else 1883)


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """Return what TLS needs, None without; ConfigError where the settings cannot be used together."""
    if settings.password is not None and settings.user is None:
        raise ConfigError("password is there, but user is not, which it needs")
    if settings.password is not None and not (settings.tls or settings.insecure or is_loopback(settings.host)):
        raise ConfigError(
            f"host is {settings.host!r}, which would get the password as plain text: it needs tls = true, or "
            "insecure = true to send it so"
        )
    files = {"ca_file": settings.ca_file, "cert_file": settings.cert_file, "key_file": settings.key_file}
    if not settings.tls:
        if given := [key for key, file in files.items() if file is not None]:
            raise ConfigError(f"{given[0]} is there, but tls is false; it must be true")
        return None
    if settings.key_file is not None and settings.cert_file is None:
        raise ConfigError("key_file is there, but cert_file is not, which it needs")
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise ConfigError(f"ca_file is {settings.ca_file!r}, which cannot be used: {_why(error)}") from None
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cert_file is {settings.cert_file!r} and key_file is {settings.key_file!r}, which cannot be used: "
                f"{_why(error)}"
            ) from None
    return context


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
