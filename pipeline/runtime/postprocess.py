"""All after the engine: detect -> track -> identify -> smooth -> publish, and the state that outlives a crash there."""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from engines.engine import Engine
from engines.spec import Model, Thresholds
from pipeline.events.log import EventLog
from pipeline.events.zones import ZoneCounter, zone_counters_of
from pipeline.frames.counters import CountsReader
from pipeline.frames.stage_times import StageTimes
from pipeline.frames.types import Counts, Health, Inferred, Result
from pipeline.gallery.gallery import Gallery
from pipeline.identity.stage import Identifier, identify
from pipeline.inference.stage import detect
from pipeline.runtime.event_publisher import EventPublisher, publish
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.fan_out import Sinks
from pipeline.smoothing.stage import Smoothers, smooth
from pipeline.tracking.stage import Trackers, track
from pipeline.tracking.tracker import low_score_threshold

TRACKS_PER_RESTART = 1_000_000
SILENT_TIMES = 4.0  # tracking.max_lost_s, after which a track has ended also if a crash swallowed its end


class Postprocessor:
    """What turns the engine's outputs into published results.

    Args:
        config: of the run.
        model: whose outputs they are.
        publisher: where messages go.
        counters: of the streams, for the drops that messages tell.
        face_engine: the face entry, with ``gallery``; None for no names.
        gallery: who is known.
        restarts: how many finishers of this run, whose state is lost, came before: no track takes the number of theirs.
        open_events: where they find what has to be ended and what lines counted; None: nobody comes after this one.

    Raises:
        ConfigError: a zone or line is for a label that the model does not know.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        publisher: Sinks,
        counters: CountsReader,
        face_engine: Engine | None,
        gallery: Gallery | None,
        restarts: int = 0,
        open_events: OpenEventLog | None = None,
    ) -> None:
        spec, sure = model.spec, effective_thresholds(config, model)
        self._config, self._labels = config, spec.objects
        person = spec.objects.index("person") if "person" in spec.objects else None
        self._thresholds = low_score_thresholds(sure, config.tracking.low_score_ratio)
        self._suppression = config.inference.nms
        self._trackers = Trackers(config.tracking, sure, person, first_id=1 + restarts * TRACKS_PER_RESTART)
        self.identifier: Identifier | None = None
        if face_engine is not None and gallery is not None:
            self.identifier = Identifier(face_engine, gallery, config.identity, sure.identity_similarity)
        self._smoothers = Smoothers(config.smoothing, len(spec.objects), len(spec.scenes))
        places = zone_counters_of(config, spec.objects)
        if open_events is not None:
            for stream, counting in places.items():
                counting.count_on(open_events.line_counts(stream))
        events = EventLog(
            spec.objects,
            spec.scenes,
            places,
            crops=config.events.best_crops,
            patience_s=SILENT_TIMES * config.tracking.max_lost_s,
        )
        self._event_publisher = EventPublisher(publisher, counters, spec, events, open_events)
        self.times = StageTimes()

    def stage(self, inferred: Iterable[Inferred]) -> Iterator[Result]:
        """The way of each frame from the network's raw outputs to its message."""
        observed = detect(inferred, self._thresholds, self._suppression)
        tracked = track(observed, self._trackers)
        identified = identify(tracked, self.identifier)
        smoothed = smooth(identified, self._smoothers)
        for result in publish(smoothed, self._event_publisher):
            self.times.add(result)
            yield result

    def check(self, settings: StreamSettings) -> None:
        """Refuse a stream with a zone or line for a label that the model does not know, with a ConfigError."""
        self._places_of(settings)

    def begin(self, settings: StreamSettings) -> None:
        """A stream is added whose frames come from now on."""
        self._event_publisher.begin(settings.name, self._places_of(settings))

    def _places_of(self, settings: StreamSettings) -> ZoneCounter | None:
        return zone_counters_of(msgspec.structs.replace(self._config, streams=(settings,)), self._labels).get(
            settings.name
        )

    def forget(self, stream: str) -> None:
        """A stream was removed, after its end was reported; the numbers of its tracks are not given again."""
        self._smoothers.forget(stream)
        if self.identifier is not None:
            self.identifier.forget(stream)
        self._event_publisher.forget(stream)

    def counts(self, stream: str) -> dict[str, Counts]:
        """Of a stream's zones and lines, as of its last frame."""
        return self._event_publisher.counts(stream)

    def reported(self, report: Health) -> None:
        """What happened to a stream is about to be published; none of its frames is under way.

        When it went down or ended, all that was seen in it has ended: what comes later has new numbers.
        """
        if report.state != "up":
            self._trackers.lose(report.stream)
            self._event_publisher.end(report.stream, "down" if report.state == "down" else "stopped")

    def end(self) -> None:
        """No frame comes any more."""
        self._event_publisher.end_all("stopped")


def effective_thresholds(config: Config, model: Model) -> Thresholds:
    """The model's thresholds, or those that the configuration puts in their place."""
    own, chosen = model.spec.thresholds, config.inference
    given = {
        "object_score": chosen.object_score,
        "face_score": chosen.face_score,
        "identity_similarity": config.identity.similarity,
    }
    return msgspec.structs.replace(own, **{name: value for name, value in given.items() if value is not None})


def low_score_thresholds(sure: Thresholds, share: float) -> Thresholds:
    """What detection lets through to the trackers, which carry tracks on with weaker detections than begin one."""
    objects, faces = low_score_threshold(np.array([sure.object_score, sure.face_score]), share).tolist()
    return msgspec.structs.replace(sure, object_score=objects, face_score=faces)
