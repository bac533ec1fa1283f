"""What is sent: the event in a form of choice, its picture, and the signature."""

import base64
import hashlib
import hmac
from typing import Any, Final

import httpx
import jinja2
import jinja2.sandbox
import msgspec

from engines.errors import ConfigError, MessageError, kind_and_line, one_line
from pipeline.sinks.webhook.settings import WebhookSettings
from pipeline.wire.links import SnapshotLinks
from pipeline.wire.messages import EventMessage, encode

SECRET_PREFIX: Final = "whsec_"  # of secrets in base64, as Standard Webhooks writes them
SAMPLE: Final = EventMessage(
    stream="door", seq=0, captured_at="2026-01-01T00:00:00.000Z", event="new", kind="object", track=1, label="person"
)


class Body(msgspec.Struct, frozen=True):
    """The content of a request, and what it is."""

    content_type: str
    content: bytes


class Writer:
    """Writes the body of each event.

    Raises:
        ConfigError: the template is none.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self.links: SnapshotLinks | None = None  # with snapshot = "link", once the run is known
        self._template = None
        if settings.template is not None:
            environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
                undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
            )
            try:
                self._template = environment.from_string(settings.template)
                self.write(SAMPLE, "sample")
            except (jinja2.TemplateError, MessageError) as error:
                raise ConfigError(f"template cannot be used: {one_line(error)}") from None

    def write(self, message: EventMessage, identifier: str) -> Body:
        """Return the body of an event; MessageError where the template fails for it.

        Args:
            message: the event.
            identifier: of this delivery, the same at each try.
        """
        settings = self._settings
        crop = message.best_crop
        inline = message if settings.snapshot == "base64" else msgspec.structs.replace(message, best_crop=None)
        url = None if self.links is None or crop is None else self.links.link(message, settings.link_s)
        if self._template is not None:
            body = Body(settings.content_type, self._rendered(inline, identifier, url))
        elif settings.format == "cloudevents":
            body = Body("application/cloudevents+json", _cloud_event(inline, identifier, url))
        else:
            body = Body("application/json", _json(inline, url))
        if settings.snapshot != "multipart":
            return body
        files = {"event": ("event", body.content, body.content_type)}
        if crop is not None:
            files["snapshot"] = ("snapshot.jpg", crop.jpeg, "image/jpeg")
        request = httpx.Request("POST", "http://none", files=files)
        return Body(request.headers["Content-Type"], request.read())

    def _rendered(self, message: EventMessage, identifier: str, url: str | None) -> bytes:
        assert self._template is not None
        event: dict[str, Any] = msgspec.json.decode(encode(message, "json"))
        snapshot = None if message.best_crop is None else base64.b64encode(message.best_crop.jpeg).decode()
        try:
            rendered = self._template.render(event=event, snapshot=snapshot, snapshot_url=url, id=identifier)
            return rendered.encode()
        except Exception as error:  # whatever an expression raises, TypeError and ZeroDivisionError among them
            raise MessageError(f"the template fails: {kind_and_line(error)}") from None


def _json(message: EventMessage, url: str | None) -> bytes:
    """The event, with the link to its picture where there is one."""
    text = encode(message, "json")
    return text if url is None else msgspec.json.encode(msgspec.json.decode(text) | {"snapshot_url": url})


def _cloud_event(message: EventMessage, identifier: str, url: str | None) -> bytes:
    """As CloudEvents 1.0 has it, in its structured mode."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": identifier,
            "source": f"/trunkline/{message.stream}",
            "type": f"trunkline.{message.kind}.{message.event}",
            "time": message.captured_at,
            "datacontenttype": "application/json",
            "data": msgspec.Raw(_json(message, url)),
        }
    )


def signed(secret: str, identifier: str, at_s: int, content: bytes) -> dict[str, str]:
    """Return the headers that prove who sent a body, and when: those of Standard Webhooks, with HMAC-SHA256.

    Args:
        secret: the key; behind ``whsec_`` it is base64.
        identifier: of the delivery.
        at_s: Unix time.
        content: the whole body.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX)) if secret.startswith(SECRET_PREFIX) else secret.encode()
    digest = hmac.digest(key, f"{identifier}.{at_s}.".encode() + content, hashlib.sha256)
    return {"webhook-timestamp": str(at_s), "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}
