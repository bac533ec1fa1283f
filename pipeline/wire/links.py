"""Links to the picture of an event that hold for a while without a login: sinks make them, the page serves them."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from engines.errors import RequestError
from pipeline.wire.messages import EventMessage

PATH: Final = "/api/links/snapshot.jpg"
FIELDS: Final = ("stream", "at", "event", "kind", "track", "expires")  # what is signed, in this order


class SnapshotLinks:
    """Makes links, and tells which are its own.

    Args:
        secret: that whoever makes links shares with who serves them.
        base: URL of the page's server as receivers reach it; needed to make links.
    """

    def __init__(self, secret: str, base: str = "") -> None:
        self._key, self._base = secret.encode(), base.rstrip("/")

    def link(self, message: EventMessage, seconds: float, now_s: float | None = None) -> str:
        """Return the URL of an event's picture, which holds for so many seconds.

        >>> event = EventMessage(stream="door", seq=0, captured_at="2026-11-23T09:14:07.120Z", event="new",
        ...     kind="object", track=17, label="person")
        >>> SnapshotLinks("secret", "https://cams.example").link(event, 60, now_s=0.0).partition("&signature=")[0]
        'https://cams.example/api/links/snapshot.jpg?stream=door&at=2026-11-23T09%3A14%3A07.120Z&event=new&kind=object&track=17&expires=60'
        """
        expires = round((time.time() if now_s is None else now_s) + seconds)
        values = (message.stream, message.captured_at, message.event, message.kind, message.track, expires)
        fields = {name: "" if value is None else str(value) for name, value in zip(FIELDS, values, strict=True)}
        return f"{self._base}{PATH}?{urlencode(fields | {'signature': self._signature(fields)})}"

    def check(self, fields: Mapping[str, str], now_s: float | None = None) -> None:
        """Raise RequestError 403 where the fields of a link were not signed here, or its time is over."""
        signed = {name: fields.get(name, "") for name in FIELDS}
        # First of all, so that nothing else of a link that somebody made up is looked at.
        if not hmac.compare_digest(self._signature(signed).encode(), fields.get("signature", "").encode()):
            raise RequestError(403, "the link was not made here, or was changed")
        if int(signed["expires"]) < (time.time() if now_s is None else now_s):
            raise RequestError(403, "the link's time is over")

    def _signature(self, fields: Mapping[str, str]) -> str:
        text = urlencode([(name, fields[name]) for name in FIELDS])
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()
