"""The keys of ``[[sinks]] kind = "webhook"``."""

from typing import Annotated, Literal

import msgspec

from pipeline.frames.events import EventKind, EventName

Hours = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d\Z",
        description='a span of the day such as "22:00-06:00"',
    ),
]
Seconds = Annotated[float, msgspec.Meta(gt=0.0)]


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where events go, which, and in which form. What is None or empty lets every event through."""

    url: str  # "${HOOK_URL}" where its path is a secret
    spool: str  # a folder of its own, made when it is missing
    allow: tuple[str, ...] = ()  # hosts, addresses and networks that are not public and may be reached all the same

    streams: tuple[str, ...] = ()
    kinds: tuple[EventKind, ...] = ()
    events: tuple[EventName, ...] = ()
    labels: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()  # and lines
    names: tuple[str, ...] = ()  # of people
    household: tuple[str, ...] = ()  # nothing is told of these people
    face: Literal["known", "unknown"] | None = None
    min_score: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    hours: tuple[Hours, ...] = ()  # of this host's local time
    every_s: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0  # of the same stream, kind, label and zone, not more often

    format: Literal["json", "cloudevents"] = "json"
    template: str | None = None  # Jinja2, in place of a format
    content_type: str = "application/json"  # of a template
    snapshot: Literal["none", "base64", "multipart", "link"] = "none"  # with events.best_crops
    link_s: Seconds = 86_400.0  # that a link holds for

    secret: str | None = None  # "${HOOK_SECRET}": what requests are signed with
    headers: dict[str, str] = {}  # more of them, such as Authorization
    timeout_s: Seconds = 10.0  # of one try
    max_age_s: Seconds = 86_400.0  # tried for so long
    max_waiting: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000  # in the spool; the oldest go first
    max_spool_mb: Annotated[float, msgspec.Meta(gt=0.0)] = 100.0  # likewise, in 10^6 bytes
