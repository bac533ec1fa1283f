"""Messages of a stream in which little is seen."""

from pipeline.wire.messages import FrameMessage, HealthMessage, ObjectMessage, TimingsMessage

AT = "2026-11-23T09:14:07.120Z"


def frame(stream: str, seq: int = 0, *objects: ObjectMessage, **dropped: int) -> FrameMessage:
    """Of a full-HD picture; ``dropped`` by cause."""
    return FrameMessage(
        stream=stream,
        seq=seq,
        captured_at=AT,
        size=(1920, 1080),
        objects=objects,
        faces=(),
        scene=(),
        timings_ms=TimingsMessage(0.0, 0.0, 0.0, 0.0),
        dropped=dropped,
    )


def health(stream: str) -> HealthMessage:
    return HealthMessage(stream=stream, at=AT, state="up", cause="opened")
