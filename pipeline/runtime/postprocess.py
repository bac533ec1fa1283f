"""From the engine's outputs to results: detect -> track -> identify -> smooth, for the streams of one shard."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import msgspec
import numpy as np

from engines.spec import Model, Thresholds
from pipeline.frames.types import CropsSeen, Inferred, Result
from pipeline.gallery.gallery import Gallery
from pipeline.identity.face_entry import FaceQueue
from pipeline.identity.stage import Identifier, identify
from pipeline.inference.stage import detect
from pipeline.settings.schema import Config
from pipeline.smoothing.stage import Smoothers, smooth
from pipeline.tracking.found import low_score_threshold
from pipeline.tracking.stage import Trackers, track

TRACKS_PER_RESTART = 1_000_000


class Postprocessor:
    """All that one shard knows of its streams; nothing of it is shared with another.

    Args:
        config: of the run.
        model: whose outputs they are.
        faces: the face entry, with ``gallery``; None for no names.
        gallery: who is known; for this shard alone.
        live: whether the frames of a stream must not wait for the face entry.
        restarts: how many such processes, whose state is lost, came before: no track takes the number of theirs.
        saw: hears what was found in frames that may have crops.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        faces: FaceQueue | None,
        gallery: Gallery | None,
        live: Callable[[str], bool],
        restarts: int = 0,
        saw: Callable[[CropsSeen], None] = lambda seen: None,
    ) -> None:
        self._saw = saw
        self._model, spec, sure = model, model.spec, effective_thresholds(config, model)
        person = spec.objects.index("person") if "person" in spec.objects else None
        self._sure = self._wanted = sure
        self._low_score_ratio = config.tracking.low_score_ratio
        self._thresholds = low_score_thresholds(sure, self._low_score_ratio)
        self._suppression = config.inference.nms
        self._trackers = Trackers(config.tracking, sure, person, _first_id(restarts))
        self._identifier: Identifier | None = None
        if faces is not None and gallery is not None:
            threshold = sure.identity_similarity
            self._identifier = Identifier(faces, gallery, config.identity, threshold, live=live)
        self._spec = spec
        light = bool(spec.scene_groups)  # day or night is told beside the kind of place
        self._smoothers = Smoothers(config.smoothing, len(spec.objects), len(spec.scene_labels), light=light)

    def stage(self, inferred: Iterable[Inferred]) -> Iterator[Result]:
        """The way of each frame from the network's raw outputs to all that is known of it."""
        observed = detect(self._tuned(inferred), lambda: self._thresholds, self._suppression, self._spec, self._saw)
        tracked = track(observed, self._trackers)
        return chain.from_iterable(smooth(identify(tracked, self._identifier), self._smoothers))

    def tune(self, config: Config) -> None:
        """Take other thresholds from the next batch on; any thread may say so."""
        self._wanted = effective_thresholds(config, self._model)

    def _tuned(self, inferred: Iterable[Inferred]) -> Iterator[Inferred]:
        for batch in inferred:
            if (wanted := self._wanted) is not self._sure:
                self._sure, self._thresholds = wanted, low_score_thresholds(wanted, self._low_score_ratio)
                self._trackers.tune(wanted)
                if self._identifier is not None:
                    self._identifier.tune(wanted.identity_similarity)
            yield batch

    def resume(self, stream: str, restarts: int) -> None:
        """A stream comes that went on elsewhere so often: no track takes the number of an earlier one."""
        self._trackers.begin(stream, _first_id(restarts))

    def lose(self, stream: str) -> None:
        """All that was seen in a stream has ended, and none of its frames is under way: what comes has new numbers."""
        self._trackers.lose(stream)

    def forget(self, stream: str) -> None:
        """A stream was removed, after all in it had ended; the numbers of its tracks are not given again."""
        self._smoothers.forget(stream)
        if self._identifier is not None:
            self._identifier.forget(stream)


def _first_id(restarts: int) -> int:
    return 1 + restarts * TRACKS_PER_RESTART


def effective_thresholds(config: Config, model: Model) -> Thresholds:
    """The model's thresholds, or those that the configuration puts in their place."""
    chosen, similarity = config.inference, config.identity.similarity
    own = model.spec.thresholds.at(object_score=chosen.object_score, face_score=chosen.face_score)
    return own if similarity is None else msgspec.structs.replace(own, identity_similarity=similarity)


def low_score_thresholds(sure: Thresholds, share: float) -> Thresholds:
    """What detection lets through to the trackers, which carry tracks on with weaker detections than begin one."""
    objects, faces, *labels = low_score_threshold(
        np.array([sure.object_score, sure.face_score, *(sure.object_scores or ())]), share
    ).tolist()
    low = sure.at(object_score=objects, face_score=faces)
    return low if sure.object_scores is None else msgspec.structs.replace(low, object_scores=tuple(labels))
