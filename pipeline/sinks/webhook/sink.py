"""The sink: events that are wanted go into the spool, from which a thread delivers them."""

import base64
import binascii
import ssl
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from engines.errors import ConfigError
from pipeline.settings.schema import Config
from pipeline.sinks.base import StreamSwitches
from pipeline.sinks.webhook.body import SECRET_PREFIX, Writer
from pipeline.sinks.webhook.delivering import BACKOFF_S, Deliverer
from pipeline.sinks.webhook.matching import Filter
from pipeline.sinks.webhook.settings import WebhookSettings
from pipeline.sinks.webhook.spool import MB, Delivery, Spool
from pipeline.sinks.webhook.targets import Target
from pipeline.wire.links import SnapshotLinks
from pipeline.wire.messages import EventMessage, Message

CLOSE_S: Final = 2.0  # for what waits, once the run is over; the rest stays for the next run


class WebhookSink:
    """Posts events, each at least once; docs/webhooks.md.

    A message counts as sent once it is in the spool, unless it is lost from there: ``full``, ``expired``, ``refused``.

    Args:
        settings: of the sink.
        tls: trusts whom; None: the system's authorities.
        backoff_s: the first and the longest wait between two tries.

    Raises:
        ConfigError: the URL, the template, the secret or the spool cannot be used.
    """

    Settings = WebhookSettings

    def __init__(
        self,
        settings: WebhookSettings,
        tls: ssl.SSLContext | None = None,
        backoff_s: tuple[float, float] = BACKOFF_S,
    ) -> None:
        _check(settings)
        target = Target(settings.url, settings.allow)
        self._settings = settings
        self._writer, self._filter = Writer(settings), Filter(settings)
        self._spool = Spool(Path(settings.spool).expanduser(), settings.max_waiting, round(settings.max_spool_mb * MB))
        self._deliverer = Deliverer(settings, target, self._spool, tls, backoff_s)

    def attach(self, config: Config, switches: StreamSwitches) -> None:
        """Learn where the run's pictures are served; ConfigError where links to them are wanted and cannot be made."""
        if self._settings.snapshot != "link":
            return
        web = config.web
        if web is None or not web.link_secret or not web.public_url:
            raise ConfigError('snapshot is "link", which needs web.public_url and web.link_secret')
        if not config.events.best_crops or not any(sink.kind == "store" for sink in config.sinks):
            raise ConfigError('snapshot is "link", which needs events.best_crops and [[sinks]] kind = "store"')
        self._writer.links = SnapshotLinks(str(web.link_secret), web.public_url)

    def send(self, message: Message) -> None:
        """Keep an event that is wanted; OSError where the disk fails, MessageError where the template does."""
        if not self._filter.takes(message, datetime.now(), time.monotonic()):
            return
        assert isinstance(message, EventMessage)
        identifier = f"msg_{uuid.uuid4().hex}"
        self._spool.put(Delivery(identifier, time.time_ns(), self._writer.write(message, identifier)))

    @property
    def lost(self) -> Mapping[str, int]:
        """Events that were kept and never arrived, by cause."""
        return self._spool.lost

    def close(self) -> None:
        """Give what waits two seconds to arrive; what is left is delivered by the next run."""
        self._spool.drain(CLOSE_S)
        self._spool.close()
        self._deliverer.join(CLOSE_S / 4)


def _check(settings: WebhookSettings) -> None:
    if settings.template is not None and settings.format != "json":
        raise ConfigError(f"template is there, but format is {settings.format!r}; one of them must be left out")
    for name, value in settings.headers.items():
        if not name.isascii() or not str(value).isascii() or any(mark in name + value for mark in "\r\n"):
            raise ConfigError(f"headers.{name!r} must have a name and a value in ASCII, on one line")
    secret = settings.secret
    if secret is None:
        return
    if not secret:
        raise ConfigError("secret is empty, but must be a text that nobody guesses, or be left out")
    if secret.startswith(SECRET_PREFIX):
        try:
            base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise ConfigError(f"secret begins with {SECRET_PREFIX}, but no base64 follows") from None
