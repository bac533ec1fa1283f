"""Messages of a made run."""

from typing import Any

import msgspec

from pipeline.wire.messages import (
    CropMessage,
    EventMessage,
    FaceMessage,
    FrameMessage,
    HealthMessage,
    IdentityMessage,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
)

MOMENT = "2026-11-23T09:14:07.120Z"
BOX = (10.0, 20.0, 30.0, 60.0)
CROP = CropMessage(MOMENT, BOX, b"\xff\xd8 a picture \xff\xd9")


def frame(
    stream: str = "door", *labels: str, names: tuple[str | None, ...] = (), scene: str | None = None
) -> FrameMessage:
    faces = [
        FaceMessage(50 + row, 1 + row, 0.9, BOX, (), None if name is None else IdentityMessage(name, 0.7))
        for row, name in enumerate(names)
    ]
    return FrameMessage(
        stream=stream,
        seq=0,
        captured_at=MOMENT,
        size=(640, 480),
        objects=tuple(ObjectMessage(1 + row, label, 0.9, BOX) for row, label in enumerate(labels)),
        faces=tuple(faces),
        scene=() if scene is None else (SceneMessage(scene, 0.8),),
        timings_ms=TimingsMessage(1, 1, 1, 3),
        dropped={},
    )


def event(kind: str = "object", happened: str = "new", /, **fields: Any) -> EventMessage:
    values = {"stream": "door", "seq": 3, "captured_at": MOMENT, "event": happened, "kind": kind, "track": 1}
    values |= {"label": "person", "score": 0.8, "box": BOX, "first_seen": MOMENT, "last_seen": MOMENT}
    return msgspec.structs.replace(EventMessage(**values), **fields)


def health(state: str = "up", cause: str = "opened", stream: str = "door") -> HealthMessage:
    return HealthMessage(stream=stream, at=MOMENT, state=state, cause=cause)  # type: ignore[arg-type]


def face(name: str | None, track: int = 50, person: int | None = 1) -> FaceMessage:
    return FaceMessage(track, person, 0.9, BOX, (), None if name is None else IdentityMessage(name, 0.7))
