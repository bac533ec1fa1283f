"""What moves between the stages: frozen, slotted, and each with ``frames``, so that every frame can be accounted for.

After the network each step adds fields to those of the step before: a :class:`Result` has them all.

capture -> Frame -> batch -> Batch -> preprocess -> Prepared -> infer -> Inferred -> detect -> Observed (or Skipped)
-> track -> Tracked -> identify -> Identified -> smooth -> Result -> publish
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from operator import attrgetter
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from engines.boxes import Letterbox
from engines.decode import Detections
from pipeline.frames.light import Light
from pipeline.frames.picture import Picture

# What becomes of a stream's frames when they come faster than they go. freshest: the newest wins, as of a camera.
# every_frame: nothing is lost, the source waits, as for a file that runs at its own pace. bulk: likewise, and nobody
# minds how long a frame waits, as in a file that runs as fast as it goes.
Mode = Literal["freshest", "every_frame", "bulk"]
StreamStatus = Literal["up", "down", "ended"]
# What a frame shows that was not inferred. unchanged: what the last inferred frame showed, since nothing has moved.
# predicted: its tracks where their motion takes them, since the frame was left out by the inference rate.
Carried = Literal["unchanged", "predicted"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """One use of a slot in shared memory (:class:`pipeline.runtime.ring.Ring`)."""

    slot: int
    generation: int  # how often the slot had been claimed, this time included


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream."""

    stream: str
    seq: int  # counts every frame the source gave, from 0, dropped ones too
    captured_ns: int  # Unix time when it was decoded
    clock_ns: int  # time.monotonic_ns() at the same moment, for latencies
    time_s: float  # stream time in seconds: media time of a file, capture time of a live source
    picture: Picture  # without planes where the frame is ``between``, in shared memory and not recorded
    ticket: Ticket | None = None  # of the picture's pixels, where they are in shared memory
    unchanged: bool = False  # nothing has moved since the last one that was not: it needs no inference
    between: bool = False  # things move, but it is not among those that its stream's inference.fps chooses
    cut_seq: int = -1  # seq of the last frame up to this one that showed another scene than the one before, if any ...
    doubtful_seq: int = -1  # ... and of the last that may have
    crops: int = 0  # parts of it that the network may see larger, beside the whole

    @property
    def frames(self) -> tuple["Frame", ...]:
        return (self,)

    @property
    def blank(self) -> bool:
        """Whether its pixels were left behind."""
        return not self.picture.planes


class Carrier(Protocol):
    """Whatever moves between stages knows which frames it stands for."""

    @property
    def frames(self) -> tuple[Frame, ...]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that go through the network together, and those that go along in the order of their streams."""

    frames: tuple[Frame, ...]
    taken_ns: int  # time.monotonic_ns() when the batch was formed
    skipped: frozenset[int] = frozenset()  # positions of the frames that need no inference: tracks are carried on

    @property
    def inferred(self) -> int:
        """How many frames the network sees."""
        return len(self.frames) - len(self.skipped)

    @property
    def to_infer(self) -> tuple[Frame, ...]:
        """The frames that the network sees, in order."""
        return tuple(frame for place, frame in enumerate(self.frames) if place not in self.skipped)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch as the network wants it; N may be 0."""

    batch: Batch
    # (N, H, W, 3) RGB, letterboxed, of the frames to infer; none where the engine makes them of the frames' pictures
    pixels: npt.NDArray[np.uint8]
    letterboxes: tuple[Letterbox, ...]  # one for each of them
    ready_ns: int
    ticket: Ticket | None = None  # of the pixels, where they are in shared memory
    # Rows of each frame to infer: its whole picture, then crops of it. (): one each, all of them whole pictures.
    views: tuple[int, ...] = ()

    @property
    def frames(self) -> tuple[Frame, ...]:
        return self.batch.frames


@dataclass(frozen=True, slots=True)
class Timestamps:
    """When a frame passed each step, time.monotonic_ns()."""

    taken_ns: int
    ready_ns: int
    infer_started_ns: int
    infer_ended_ns: int


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """What batching learns from a batch that the engine has ended."""

    size: int  # frames that were inferred
    timestamps: Timestamps
    depth: int  # batches that the engine has under way at once


@dataclass(frozen=True, slots=True)
class CropsSeen:
    """What the choice of crops learns from a frame that had some, or might have had."""

    stream: str
    crops: tuple[tuple[int, int, int, int], ...]  # left, top, width, height of each, source pixels
    boxes: npt.NDArray[np.float32]  # (N, 4) xyxy of what was found, in them and in the whole picture


@dataclass(frozen=True, slots=True)
class Inferred:
    """The network's raw outputs for a batch."""

    prepared: Prepared
    outputs: Mapping[str, npt.NDArray[np.generic]]  # a row for each frame that was inferred; empty if none was
    started_ns: int
    ended_ns: int

    @property
    def frames(self) -> tuple[Frame, ...]:
        return self.prepared.frames

    @property
    def timestamps(self) -> Timestamps:
        """When its frames passed each step."""
        return Timestamps(self.prepared.batch.taken_ns, self.prepared.ready_ns, self.started_ns, self.ended_ns)

    def ran(self, depth: int) -> BatchTiming:
        """What batching learns from it; ``depth``: batches that the engine has under way at once."""
        return BatchTiming(self.prepared.batch.inferred, self.timestamps, depth)


@dataclass(frozen=True, slots=True)
class Observed:
    """One frame and what the network saw in it."""

    frame: Frame
    detections: Detections
    timestamps: Timestamps
    carried: Carried | None = field(default=None, kw_only=True)  # from an earlier frame; None: this one was inferred

    @property
    def skipped(self) -> bool:
        """Whether the network was not shown this frame."""
        return self.carried is not None

    @property
    def frames(self) -> tuple[Frame, ...]:
        return (self.frame,)


@dataclass(frozen=True, slots=True)
class Skipped:
    """One frame that the network was not shown."""

    frame: Frame
    timestamps: Timestamps


@dataclass(frozen=True, slots=True)
class Tracks:
    """Confirmed tracks that a detection of this frame belongs to, and those that ended with it. T rows."""

    ids: npt.NDArray[np.int64]  # (T,) from 1, unique per run and stream, never reused
    boxes: npt.NDArray[np.float32]  # (T, 4) xyxy source pixels
    scores: npt.NDArray[np.float32]  # (T,)
    labels: npt.NDArray[np.int32]  # (T,) raw label of the detection
    rows: npt.NDArray[np.int64]  # (T,) row of the detection in Objects or Faces
    ended: npt.NDArray[np.int64]  # ids of confirmed tracks that ended since the last frame


@dataclass(frozen=True, slots=True)
class Tracked(Observed):
    """One frame with its tracks."""

    objects: Tracks
    faces: Tracks
    face_objects: npt.NDArray[np.int64]  # (faces,) id of the person each face belongs to, 0 for none
    cut: bool = field(default=False, kw_only=True)  # it shows another scene than the last: all that was followed ended

    @classmethod
    def of(
        cls,
        observed: Observed,
        objects: Tracks,
        faces: Tracks,
        face_objects: npt.NDArray[np.int64],
        *,
        cut: bool = False,
    ) -> Self:
        """What was observed, with its tracks."""
        return cls(**_fields(observed), objects=objects, faces=faces, face_objects=face_objects, cut=cut)


@dataclass(frozen=True, slots=True)
class Identity:
    """A name from the gallery and the cosine similarity it rests on."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class FaceLooks:
    """What a task of faces says of those that the face entry was shown in one frame. V rows."""

    rows: npt.NDArray[np.int64]  # (V,) of the face tracks
    probabilities: npt.NDArray[np.float32]  # (V, C) of the task's labels


@dataclass(frozen=True, slots=True)
class FaceLabel:
    """What a face is by one task, smoothed over its track, and how sure that is."""

    label: str
    score: float  # in [0, 1]


@dataclass(frozen=True, slots=True)
class Identified(Tracked):
    """One frame with a name, or None, for every face track."""

    identities: tuple[Identity | None, ...]  # one per row of faces
    looks: Mapping[str, FaceLooks] = field(default_factory=dict, kw_only=True)  # by task of faces, if any was shown

    @classmethod
    def with_names(
        cls, tracked: Tracked, identities: tuple[Identity | None, ...], looks: Mapping[str, FaceLooks] | None = None
    ) -> Self:
        """What was tracked, with its names and what else the face entry says."""
        return cls(**_fields(tracked), identities=identities, looks=looks or {})


@dataclass(frozen=True, slots=True)
class Result(Identified):
    """One frame, finished: smoothed labels, ready to publish."""

    labels: npt.NDArray[np.int32]  # (objects,) smoothed label of each object track
    label_scores: npt.NDArray[np.float32]  # (objects,) smoothed confidence
    scene: npt.NDArray[np.float32]  # (C,) smoothed probabilities
    scene_label: int  # the smoothed scene label, -1 while none has enough evidence
    finished_ns: int  # time.monotonic_ns()
    # By task of faces: one per row of faces, None where it was not shown yet; empty where the model has no such task.
    face_labels: Mapping[str, tuple[FaceLabel | None, ...]] = field(default_factory=dict, kw_only=True)
    light: Light | None = field(default=None, kw_only=True)  # None: nobody asked

    @classmethod
    def finished(
        cls,
        identified: Identified,
        labels: npt.NDArray[np.int32],
        label_scores: npt.NDArray[np.float32],
        scene: npt.NDArray[np.float32],
        scene_label: int,
        finished_ns: int,
        face_labels: Mapping[str, tuple[FaceLabel | None, ...]] | None = None,
        light: Light | None = None,
    ) -> Self:
        """What was identified, with its smoothed labels."""
        return cls(
            **_fields(identified),
            labels=labels,
            label_scores=label_scores,
            scene=scene,
            scene_label=scene_label,
            finished_ns=finished_ns,
            face_labels=face_labels or {},
            light=light,
        )


def _fields(item: Observed) -> dict[str, Any]:
    kind: Any = type(item)  # whose instances need no hash
    names, values = _reader(kind)
    return dict(zip(names, values(item), strict=True))


@cache
def _reader(kind: type[Any]) -> tuple[tuple[str, ...], Callable[[Observed], tuple[Any, ...]]]:
    """Return the names of the fields of a type, and what reads them all at once."""
    names = tuple(each.name for each in fields(kind))
    return names, attrgetter(*names)


ReadOutcome = Literal["all", "part", "nothing"]


@dataclass(frozen=True, slots=True)
class Health:
    """A stream came up, went down or ended."""

    stream: str
    state: StreamStatus
    cause: str  # one clause without addresses' passwords
    at_ns: int  # Unix time
    read: ReadOutcome | None = None  # of a file that has ended by itself: how much of it could be read


Counts = dict[str, dict[str, int]]
