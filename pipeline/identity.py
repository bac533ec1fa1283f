"""Who the faces are: a few good views of each face track, pooled and compared with the gallery.

Matching is open-set: a name is given only when the most similar person is similar enough and clearly ahead of the
next one, and it is taken back when later views speak against it.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import structlog

from engines.alignment import SIZE, align, region
from engines.boxes import Float
from engines.engine import Engine
from engines.errors import GalleryError
from pipeline.config import IdentitySettings
from pipeline.gallery import Gallery, Snapshot
from pipeline.picture import Picture
from pipeline.types import Identified, Identity, Tracked

Crop = npt.NDArray[np.uint8]
Double = npt.NDArray[np.float64]

LEAD = 0.05  # cosine by which the best person must be ahead of the second
HYSTERESIS = 0.05  # cosine below the threshold down to which a name is kept
EARLY_S = 0.1  # between the first views: neighbouring frames show the same
UNKNOWN_S = 0.5  # between the views of a face that has no name
KNOWN_S = 2.0  # and of one that has: a track may have gone over to another face
BETTER = 1.25  # a view this many times as good is worth another look
FADE = 0.8  # what earlier views still count with each new one, should the tracker have changed faces
MIN_QUALITY = 0.05  # the weight of the worst view
MAX_CROPS = 16  # faces embedded in one frame; the others have their turn in the next

log = structlog.get_logger()


class People:
    """The gallery as the matching needs it; pure.

    >>> people = People(Snapshot(("Ada", "Ada", "Bob"), np.eye(3, dtype=np.float32)))
    >>> people.names, people.similarities(np.array([0.6, 0.8, 0.0])).tolist()
    (('Ada', 'Bob'), [0.8, 0.0])
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.names = tuple(dict.fromkeys(snapshot.names))
        self._vectors = snapshot.vectors
        self._starts = [snapshot.names.index(name) for name in self.names]

    def similarities(self, embedding: Double) -> Double:
        """Cosine of a unit ``embedding`` (D,) to the most similar view of each person (P,)."""
        if not self.names:
            return np.zeros(0)
        return np.asarray(np.maximum.reduceat(self._vectors @ embedding, self._starts), np.float64)

    def choose(self, similarities: Double, current: str | None, threshold: float) -> Identity | None:
        """The name for a face with ``similarities`` (P,) that bears the name ``current``, or None for an unknown."""
        if not self.names:
            return None
        best = int(similarities.argmax())
        second = float(np.delete(similarities, best).max(initial=-1.0))
        if similarities[best] >= threshold and similarities[best] - second >= LEAD:
            return Identity(self.names[best], float(similarities[best]))
        if current in self.names:
            kept = float(similarities[self.names.index(current)])
            return Identity(current, kept) if kept >= threshold - HYSTERESIS else None
        return None


@dataclass(slots=True)
class FaceTrack:
    """The views of one face so far; pure state."""

    pooled: Double = field(default_factory=lambda: np.zeros(0))
    views: int = 0
    best_view: float = 0.0
    looked_s: float = -math.inf  # stream time of the last view
    similarities: Double = field(default_factory=lambda: np.zeros(0))
    identity: Identity | None = None
    # Who it is by the name that it bears: the same from frame to frame until there is a new view or gallery.
    chosen: dict[str | None, Identity | None] = field(default_factory=dict)

    def wants(self, view: float, time_s: float, min_views: int) -> bool:
        """Whether a ``view`` this good at stream time ``time_s`` is worth a run of the face entry."""
        since = abs(time_s - self.looked_s)
        if self.views < min_views or view > BETTER * self.best_view:
            return since >= EARLY_S
        return since >= (UNKNOWN_S if self.identity is None else KNOWN_S)

    def add(self, embedding: Float, quality: float) -> None:
        """Pool one more ``embedding`` (D,), weighted by its quality in [0, 1]."""
        weighted = max(quality, MIN_QUALITY) * embedding.astype(np.float64)
        self.pooled = FADE * self.pooled + weighted if self.views else weighted
        self.views += 1

    def match(self, people: People) -> None:
        """Compare the pooled views with the gallery."""
        self.chosen.clear()
        if self.views:
            self.similarities = people.similarities(self.pooled / max(float(np.linalg.norm(self.pooled)), 1e-9))


@dataclass(frozen=True, slots=True)
class View:
    """One face track in one frame, as a candidate for the face entry."""

    row: int
    track: FaceTrack
    score: float  # how good it looks before it was embedded


class Identifier:
    """Names for the face tracks of all streams.

    Args:
        engine: the face entry.
        gallery: who is known; changes are seen within ``settings.reload_s``.
        settings: when to look, and how often.
        threshold: cosine from which a face is someone.
        clock: seconds, for the looks at the gallery.

    Attributes:
        runs: calls of the face entry so far.
        crops: faces embedded so far.
    """

    def __init__(
        self,
        engine: Engine,
        gallery: Gallery,
        settings: IdentitySettings,
        threshold: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runs = 0
        self.crops = 0
        self._engine = engine
        self._gallery = gallery
        self._settings = settings
        self._threshold = threshold
        self._clock = clock
        self._streams: defaultdict[str, dict[int, FaceTrack]] = defaultdict(dict)
        self._people = People(Snapshot((), np.zeros((0, 0), np.float32)))
        self._revision: tuple[int, int] | None = None
        self._looked_at = -math.inf

    def update(self, tracked: Tracked) -> Identified:
        """Name the faces of one frame; frames of a stream come in order."""
        self._reload()
        known = self._streams[tracked.frame.stream]
        for ended in tracked.faces.ended.tolist():
            known.pop(ended, None)
        tracks = [known.get(track) or known.setdefault(track, FaceTrack()) for track in tracked.faces.ids.tolist()]
        if not tracks:
            return Identified(tracked, ())
        if not tracked.observed.carried:
            self._look(tracked, tracks)
        chosen = [self._choose(track) for track in tracks]
        for track, identity in zip(tracks, unique_names(chosen), strict=True):
            track.identity = identity
        return Identified(tracked, tuple(track.identity for track in tracks))

    def _choose(self, track: FaceTrack) -> Identity | None:
        if track.views < self._settings.min_views:
            return None
        current = track.identity.name if track.identity else None
        if current not in track.chosen:
            track.chosen[current] = self._people.choose(track.similarities, current, self._threshold)
        return track.chosen[current]

    def _reload(self) -> None:
        now = self._clock()
        if now - self._looked_at < self._settings.reload_s:
            return
        self._looked_at = now
        try:
            revision = self._gallery.revision
            if revision == self._revision:
                return
            self._people = People(self._gallery.snapshot())
        except GalleryError as error:
            # Frames go on with the people known so far; the next look may find the file whole again.
            log.warning("gallery not read", error=str(error))
            return
        self._revision = revision
        for tracks in self._streams.values():
            for track in tracks.values():
                track.match(self._people)

    def _look(self, tracked: Tracked, tracks: Sequence[FaceTrack]) -> None:
        """Embed the faces of this frame that are worth it, in one run."""
        views, crops = [], []
        landmarks = tracked.observed.detections.faces.landmarks
        for view in self._wanted(tracked, tracks):
            view.track.looked_s = tracked.frame.time_s
            crop = aligned_face(tracked.frame.picture, landmarks[tracked.faces.rows[view.row]])
            if crop is not None:
                views.append(view)
                crops.append(crop)
        if not crops:
            return
        outputs = self._engine.infer(np.stack(crops))
        self.runs += 1
        self.crops += len(crops)
        for view, embedding, quality in zip(views, outputs["embedding"], outputs["quality"], strict=True):
            view.track.best_view = max(view.track.best_view, view.score)
            view.track.add(embedding, float(quality))
            view.track.match(self._people)

    def _wanted(self, tracked: Tracked, tracks: Sequence[FaceTrack]) -> list[View]:
        """The faces worth a run: those with the fewest views first, then the best looking."""
        faces, seen = tracked.faces, tracked.observed.detections.faces
        boxes = seen.boxes[faces.rows]
        heights = boxes[:, 3] - boxes[:, 1]
        looks = view_scores(heights, faces.scores, seen.landmarks[faces.rows]).tolist()
        time_s, smallest, views = tracked.frame.time_s, self._settings.min_face_px, self._settings.min_views
        wanted = [
            View(row, track, look)
            for row, (track, look, height) in enumerate(zip(tracks, looks, heights.tolist(), strict=True))
            if height >= smallest and track.wants(look, time_s, views)
        ]
        return sorted(wanted, key=lambda view: (view.track.views, -view.score))[:MAX_CROPS]


def view_scores(heights: Float, scores: Float, landmarks: Float) -> Float:
    """How good faces look before they are embedded: (N,) in [0, 1] from their size, detection score and frontality.

    Args:
        heights: (N,) of the boxes in source pixels; more than the face entry sees adds nothing.
        scores: (N,) of the detections.
        landmarks: (N, 5, 2) xy; a nose that is not midway between the eyes tells of a turned head.
    """
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    eyes, aside = right - left, nose - (left + right) / 2
    along = np.abs(aside[:, 0] * eyes[:, 0] + aside[:, 1] * eyes[:, 1])
    turned = along / np.maximum(eyes[:, 0] ** 2 + eyes[:, 1] ** 2, 1e-12)
    return np.asarray(scores * np.minimum(heights / SIZE, 1.0) * (1.0 - np.minimum(turned, 0.8)), np.float32)


def aligned_face(picture: Picture, landmarks: Float) -> Crop | None:
    """The upright face (112, 112, 3) RGB cut from the full-resolution picture; None when the points fit no face."""
    try:
        pixels, offset = picture.crop(region(landmarks))
        return align(pixels, landmarks - np.asarray(offset, np.float32))
    except ValueError:
        return None


def unique_names(chosen: Sequence[Identity | None]) -> list[Identity | None]:
    """The same identities, but a name only for the face that resembles it most; the others are unknown."""
    best: dict[str, Identity] = {}
    for identity in chosen:
        if identity and (identity.name not in best or identity.score > best[identity.name].score):
            best[identity.name] = identity
    return [identity if identity and best[identity.name] is identity else None for identity in chosen]


def identify(items: Iterable[Tracked], identifier: Identifier | None) -> Iterator[Identified]:
    """Name the faces of each frame; without an identifier everyone stays unknown."""
    for tracked in items:
        if identifier is None:
            yield Identified(tracked, (None,) * len(tracked.faces.ids))
        else:
            yield identifier.update(tracked)
