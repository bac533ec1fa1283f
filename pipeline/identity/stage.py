"""Who the faces are: a few good views of each face track, pooled and compared with the gallery.

Matching is open-set: a name is given only when there were enough views, the most similar person is similar enough and
clearly ahead of the next one. It is kept while the track shows the same face, and taken back when it shows another.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engines.alignment import SIZE, align, region
from engines.arrays import Crop, Float
from engines.tasks import REGISTRY
from pipeline.frames.picture import Picture
from pipeline.frames.types import FaceLooks, Identified, Identity, Tracked
from pipeline.gallery.gallery import Gallery
from pipeline.gallery.live import LiveGallery
from pipeline.gallery.search import Index
from pipeline.gallery.views import BestViews, View
from pipeline.identity.evidence import AKIN, ENOUGH, Evidence
from pipeline.identity.face_entry import MAX_CROPS, FaceQueue, FaceRequest, Outputs
from pipeline.identity.naming import NameAssigner, Ranking
from pipeline.settings.schema import IdentitySettings

EARLY_S = 0.1  # between the first views: neighbouring frames show the same; and between those of a face in doubt
UNKNOWN_S = 0.5  # between the views of a face that has no name
KNOWN_S = 2.0  # and of one that has: a track may have gone over to another face
BETTER = 1.25  # a view this many times as good is worth another look
OF_FACES = tuple(task for task in REGISTRY if task.of_faces)


@dataclass(slots=True)
class FaceTrack:
    """One face so far; pure state.

    Attributes:
        evidence: what its views say.
        best: its best views, for whoever enrols it.
        identity: the name that it bears.
    """

    evidence: Evidence = field(default_factory=Evidence)
    best: BestViews = field(default_factory=BestViews)
    best_look: float = 0.0
    looked_s: float = -math.inf  # stream time of the last view
    identity: Identity | None = None
    asked: "Asked | None" = None  # the face entry, which has not answered yet
    _ranking: Ranking | None = None
    # Its claim by the name that it bears: the same from frame to frame until there is a new view or gallery.
    _candidates: dict[str | None, Identity | None] = field(default_factory=dict)

    def wants(self, look: float, time_s: float, min_views: int) -> bool:
        """Whether a view that looks this good, at stream time ``time_s``, is worth a run of the face entry."""
        since = abs(time_s - self.looked_s)
        if since < EARLY_S or self.asked is not None:
            return False
        if look > BETTER * self.best_look or since >= (UNKNOWN_S if self.identity is None else KNOWN_S):
            return True
        return self.evidence.pool.views < min_views or self.evidence.shortfall > 0.0

    @property
    def embedding(self) -> Float:
        """Its views as one unit vector (D,); while in doubt, a name rests on the views before alone."""
        return (self.evidence.all if self.identity is None else self.evidence.pool).unit

    def rank(self, ranking: Ranking | None) -> None:
        """Take in whom its pooled views resemble now; None where there is nobody."""
        self._ranking = ranking
        self._candidates.clear()

    def forget_candidates(self) -> None:
        """What a name needs has changed: choose anew."""
        self._candidates.clear()

    def candidate(self, index: Index, threshold: float, min_views: int) -> Identity | None:
        """The name that it may bear, by its views and the ``index`` that it was ranked with."""
        current = self.identity.name if self.identity else None
        if current not in self._candidates:
            ranking = self._ranking if self.evidence.pool.views >= min_views else None
            self._candidates[current] = self._choose(ranking, index, threshold) if ranking else None
        return self._candidates[current]

    def _choose(self, ranking: Ranking, index: Index, threshold: float) -> Identity | None:
        if self.identity is None:
            return ranking.choose(threshold, None)
        name = self.identity.name
        if name == ranking.first.name:
            return ranking.choose(threshold, ranking.first)
        try:
            return ranking.choose(threshold, Identity(name, index.cosine(self.embedding, name)))
        except KeyError:  # has left the gallery
            return ranking.choose(threshold, None)


def match(tracks: Sequence[FaceTrack], index: Index) -> None:
    """Rank the people of the gallery for tracks that have a view each; settle first who seems to show another face."""
    _settle([track for track in tracks if track.evidence.turned], index)
    found = rankings([track.embedding for track in tracks], index)
    for track, ranking in zip(tracks, found, strict=True):
        track.rank(ranking)


def _settle(turned: Sequence[FaceTrack], index: Index) -> None:
    """It is the same person from another side where the newer views alone resemble the same one most, and enough.

    A track without a name has none to lose: there, newer views that resemble the older ones a little do, too.
    """
    before = rankings([track.evidence.pool.unit for track in turned], index)
    since = rankings([track.evidence.doubtful.unit for track in turned], index)
    for track, old, new in zip(turned, before, since, strict=True):
        same = old is not None and new is not None and old.first.name == new.first.name and new.first.score >= ENOUGH
        nameless = track.identity is None and track.evidence.resemblance >= AKIN
        track.evidence.settle(same=same or nameless)


def rankings(embeddings: Sequence[Float], index: Index) -> list[Ranking | None]:
    """The two people whom each unit embedding (D,) resembles most, in one search; None where the gallery is empty."""
    if not embeddings or not index.names:
        return [None] * len(embeddings)
    people, cosines = index.search(np.stack(embeddings), 2)
    return [
        Ranking(Identity(index.names[rows[0]], values[0]), values[1] if len(values) > 1 else -1.0)
        for rows, values in zip(people.tolist(), cosines.tolist(), strict=True)
    ]


@dataclass(slots=True)
class StreamFaces:
    """The face tracks of one stream."""

    tracks: dict[int, FaceTrack] = field(default_factory=dict)
    assigner: NameAssigner = field(default_factory=NameAssigner)

    def end(self, ids: Iterable[int]) -> None:
        """Forget tracks."""
        for track in ids:
            if self.tracks.pop(track, None):
                self.assigner.forget(track)


@dataclass(frozen=True, slots=True)
class FaceView:
    """One face track in one frame, for the face entry."""

    row: int
    track: FaceTrack
    look: float  # how good it looks before it was embedded
    frontal: float
    height: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One face in a request to the face entry."""

    request: FaceRequest
    place: int  # in the request
    face_view: FaceView
    crop: Crop
    landmarks: Float  # (5, 2)


class Identifier:
    """Names for the face tracks of some streams.

    The frame of a file waits for what the face entry says of its faces, so that each pass over it gives the same. That
    of a live stream does not: the answer comes to the tracks with a later frame.

    Args:
        faces: the face entry.
        gallery: who is known; changes are seen within ``settings.reload_s``.
        settings: when to look, and how often.
        threshold: cosine from which a face is someone.
        clock: seconds, for the looks at the gallery.
        live: whether a stream's frames must not wait.

    Attributes:
        runs: times that the face entry answered so far.
        crops: faces that it embedded for them.
    """

    def __init__(
        self,
        faces: FaceQueue,
        gallery: Gallery,
        settings: IdentitySettings,
        threshold: float,
        clock: Callable[[], float] = time.monotonic,
        live: Callable[[str], bool] = lambda stream: False,
    ) -> None:
        self.runs = 0
        self.crops = 0
        self._faces, self._is_live = faces, live
        self._settings = settings
        self._threshold = threshold
        self._streams: defaultdict[str, StreamFaces] = defaultdict(StreamFaces)
        self._live = LiveGallery(gallery, settings.reload_s, clock)

    def update(self, tracked: Tracked) -> Identified:
        """Name the faces of one frame; frames of a stream come in order."""
        known = self._streams[tracked.frame.stream]
        if self._live.refresh(self._views_of):
            self._match_all()
        known.end(tracked.faces.ended.tolist())
        ids = tracked.faces.ids.tolist()
        tracks = [known.tracks.get(track) or known.tracks.setdefault(track, FaceTrack()) for track in ids]
        if not tracks:
            return Identified.with_names(tracked, ())
        live = self._is_live(tracked.frame.stream)
        if not tracked.skipped:
            self._ask(tracked, tracks, wait=not live)
        looks = self._take_in(tracks, wait=not live)
        index, threshold, views = self._live.index, self._threshold, self._settings.min_views
        candidates = [track.candidate(index, threshold, views) for track in tracks]
        for track, identity in zip(tracks, known.assigner.assign(ids, candidates), strict=True):
            track.identity = identity
        return Identified.with_names(tracked, tuple(track.identity for track in tracks), looks)

    def tune(self, threshold: float) -> None:
        """Name faces from another cosine on, those that are there, too; for the thread that updates."""
        self._threshold = threshold
        for faces in tuple(self._streams.values()):
            for track in faces.tracks.values():
                track.forget_candidates()

    def forget(self, stream: str) -> None:
        """A stream was removed."""
        self._streams.pop(stream, None)

    def _views_of(self, stream: str) -> Mapping[int, BestViews] | None:
        """The live tracks of a stream and their best views; None for a stream that is not of this run."""
        if stream not in self._streams:
            return None
        return {number: track.best for number, track in self._streams[stream].tracks.items()}

    def _match_all(self) -> None:
        tracks = [track for faces in tuple(self._streams.values()) for track in faces.tracks.values()]
        match([track for track in tracks if track.evidence.pool.views], self._live.index)

    def _ask(self, tracked: Tracked, tracks: Sequence[FaceTrack], wait: bool) -> None:
        """Show the faces of this frame that are worth it to the face entry, together."""
        landmarks = tracked.detections.faces.landmarks[tracked.faces.rows]
        wanted = []
        for face_view in self._wanted(tracked, tracks, landmarks):
            crop = aligned_face(tracked.frame.picture, landmarks[face_view.row])
            if crop is None:
                face_view.track.looked_s = tracked.frame.time_s
            else:
                wanted.append((face_view, crop))
        if not wanted:
            return
        request = self._faces.ask(np.stack([crop for _, crop in wanted]), wait)
        if request is None:
            return  # it is behind: the next frame asks again
        for place, (face_view, crop) in enumerate(wanted):
            face_view.track.looked_s = tracked.frame.time_s
            face_view.track.asked = Asked(request, place, face_view, crop, landmarks[face_view.row])

    def _take_in(self, tracks: Sequence[FaceTrack], wait: bool) -> dict[str, FaceLooks]:
        """Add what the face entry has answered to the tracks of this frame; what its other tasks say of them."""
        rows, requests, said = list[int](), set[FaceRequest](), defaultdict[str, list[Float]](list)
        for row, track in enumerate(tracks):
            asked = track.asked
            if asked is None or not (wait or asked.request.answered):
                continue
            outputs, track.asked = asked.request.outputs(), None
            if outputs is None:
                continue  # it has failed, and is asked again
            rows.append(row)
            requests.add(asked.request)
            _add_view(track, asked, outputs)
            for task in OF_FACES:
                if task.outputs[0] in outputs:
                    said[task.name].append(outputs[task.outputs[0]][asked.place].astype(np.float32, copy=False))
        if not rows:
            return {}
        self.runs += len(requests)
        self.crops += len(rows)
        match([tracks[row] for row in rows], self._live.index)
        return {name: FaceLooks(np.array(rows), np.stack(each)) for name, each in said.items()}

    def _wanted(self, tracked: Tracked, tracks: Sequence[FaceTrack], landmarks: Float) -> list[FaceView]:
        """The faces worth a run: those with the fewest views first, then the best looking."""
        boxes = tracked.detections.faces.boxes[tracked.faces.rows]
        sizes, frontal = boxes[:, 3] - boxes[:, 1], frontality(landmarks)
        looks, heights = view_scores(sizes, tracked.faces.scores, frontal).tolist(), sizes.tolist()
        time_s, smallest, views = tracked.frame.time_s, self._settings.min_face_px, self._settings.min_views
        wanted = [
            FaceView(row, track, looks[row], float(frontal[row]), heights[row])
            for row, track in enumerate(tracks)
            if heights[row] >= smallest and track.wants(looks[row], time_s, views)
        ]
        return sorted(wanted, key=lambda each: (each.track.evidence.pool.views, -each.look))[:MAX_CROPS]


def _add_view(track: FaceTrack, asked: Asked, outputs: Outputs) -> None:
    """Add what the face entry says of one face to its track."""
    look, frontal, height = asked.face_view.look, asked.face_view.frontal, asked.face_view.height
    embedding, quality = outputs["embedding"][asked.place].astype(np.float32), float(outputs["quality"][asked.place])
    track.best_look = max(track.best_look, look)
    track.evidence.add(embedding, quality, frontal)
    track.best.add(View(asked.crop, asked.landmarks, height, embedding, quality), look)


def view_scores(heights: Float, scores: Float, frontal: Float) -> Float:
    """How good faces look before they are embedded: (N,) in [0, 1] from their size, detection score and frontality.

    Args:
        heights: (N,) of the boxes in source pixels; more than the face entry sees adds nothing.
        scores: (N,) of the detections.
        frontal: (N,) from :func:`frontality`.
    """
    return np.asarray(scores * np.minimum(heights / SIZE, 1.0) * frontal, np.float32)


def frontality(landmarks: Float) -> Float:
    """How far faces look ahead: (N,) in [0.2, 1], from landmarks (N, 5, 2) xy.

    A nose that is not midway between the eyes tells of a turned head.
    """
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    eyes, aside = right - left, nose - 0.5 * (left + right)
    turned = np.abs(np.vecdot(aside, eyes)) / np.maximum(np.vecdot(eyes, eyes), 1e-12)
    return np.asarray(1.0 - np.minimum(turned, 0.8), np.float32)


def aligned_face(picture: Picture, landmarks: Float) -> Crop | None:
    """The upright face (112, 112, 3) RGB cut from the full-resolution picture; None when the points fit no face."""
    try:
        pixels, offset = picture.crop(region(landmarks))
        return align(pixels, landmarks - np.asarray(offset, np.float32))
    except ValueError:
        return None


def identify(batches: Iterable[Sequence[Tracked]], identifier: Identifier | None) -> Iterator[list[Identified]]:
    """Name the faces of each frame; without an identifier everyone stays unknown."""
    for batch in batches:
        if identifier is None:
            yield [Identified.with_names(tracked, (None,) * len(tracked.faces.ids)) for tracked in batch]
        else:
            yield list(map(identifier.update, batch))
