"""Frigate's review items, which its notifications begin with: a time in which a camera sees something that moves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Severity = Literal["alert", "detection"]
ALERTS: Final = ("person", "car")  # labels, as Frigate has them unless told otherwise; all others are detections
HOLD_S: Final[dict[Severity, float]] = {"alert": 120.0, "detection": 30.0}  # without activity, until an item ends


@dataclass(slots=True)
class _Review:
    """An item that has not ended."""

    id: str
    camera: str
    start_s: float  # Unix time, as all here
    last_s: float  # of activity
    severity: Severity
    objects: dict[str, str] = field(default_factory=dict)  # by event id
    names: dict[str, str] = field(default_factory=dict)  # likewise
    zones: list[str] = field(default_factory=list)

    def told(self, ended: bool) -> dict[str, Any]:
        return {
            "id": self.id,
            "camera": self.camera,
            "start_time": self.start_s,
            "end_time": self.last_s if ended else None,
            "severity": self.severity,
            "thumb_path": "",
            "data": {
                "detections": list(self.objects),
                "objects": list(dict.fromkeys(self.objects.values())),
                "sub_labels": list(self.names.values()),
                "zones": list(self.zones),
                "audio": [],
            },
        }


class Reviews:
    """Makes items of what ``events`` tell.

    Args:
        say: takes each ``reviews`` message.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._open: dict[str, _Review] = {}  # by camera

    def saw(self, event: dict[str, Any]) -> None:
        """Let an object, as ``events`` has it, begin its camera's item or go into it; none begins with what stands."""
        camera, at_s, identifier = event["camera"], event["frame_time"], event["id"]
        self.look(camera, at_s)
        review = self._open.get(camera)
        if not event["active"] and (review is None or identifier not in review.objects):
            return
        severity: Severity = "alert" if event["label"] in ALERTS else "detection"
        before = None if review is None else review.told(ended=False)
        if review is None:
            review = self._open[camera] = _Review(f"{at_s:.6f}-{identifier[-6:]}", camera, at_s, at_s, severity)
        if event["active"]:
            review.last_s = max(review.last_s, at_s)
        if severity == "alert":
            review.severity = severity
        named = event["sub_label"] is not None
        review.objects[identifier] = f"{event['label']}-verified" if named else event["label"]
        if named:
            review.names[identifier] = event["sub_label"][0]
        review.zones += [zone for zone in event["current_zones"] if zone not in review.zones]
        after = review.told(ended=False)
        if after != before:
            self._say({"type": "new" if before is None else "update", "before": before or after, "after": after})

    def goes_on(self, camera: str, at_s: float) -> None:
        """Something of a camera's item is still moving."""
        if (review := self._open.get(camera)) is not None:
            review.last_s = max(review.last_s, at_s)

    def look(self, camera: str, at_s: float) -> None:
        """End a camera's item where nothing has moved for as long as its severity holds."""
        review = self._open.get(camera)
        if review is not None and at_s > review.last_s + HOLD_S[review.severity]:
            self.end(camera)

    def end(self, camera: str) -> None:
        """End a camera's item, if there is one."""
        if (review := self._open.pop(camera, None)) is not None:
            before, after = review.told(ended=False), review.told(ended=True)
            self._say({"type": "end", "before": before, "after": after})
