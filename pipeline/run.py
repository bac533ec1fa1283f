"""The whole way of a frame, top to bottom; the only file that knows the order of the stages."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import structlog

from engines.engine import Engine, open_engine
from engines.spec import EntryName, Model, Thresholds, load_model
from pipeline.batching import Batcher
from pipeline.capture import capture, check_source, is_live
from pipeline.config import Config, StreamSettings
from pipeline.gallery import Gallery
from pipeline.identity import Identifier, identify
from pipeline.inference import detect, infer
from pipeline.links import FrameLink, LinkClosed, QueueLink
from pipeline.messages import HealthMessage, timestamp
from pipeline.metrics import Account, Accounts, StageTimes
from pipeline.preprocess import preprocess
from pipeline.publish import Announcer, Publisher, publish
from pipeline.record import Recorder, record
from pipeline.smoothing import Smoothers, smooth
from pipeline.supervision import Workers, supervise
from pipeline.tracking import Trackers, track
from pipeline.types import Batch, Frame, Health, Inferred, Prepared, Result

BATCHES_WAITING = 1  # before the engine and behind it: one is filled while one runs
RESULTS_WAITING = 8  # before the recorder
STOP_NOTICED_S = 0.2  # after so long at the most
DRAIN_S = 10.0  # that frames on their way have to finish once a run is stopped
HURRY_S = 2.0  # that threads have to end after a second ctrl-C; a source may hang in a read
SETTLE_S = 60.0  # that the frames of a stream that ended have to be published before it is told

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run."""

    seconds: float
    streams: dict[str, Account]
    stages_ms: dict[str, dict[str, float]]
    backend: str
    precision: str
    face_runs: int  # calls of the face entry
    face_crops: int  # faces it embedded

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        published = sum(account.published for account in self.streams.values())
        return {
            "seconds": round(self.seconds, 3),
            "frames_per_s": round(published / self.seconds, 2) if self.seconds else 0.0,
            "backend": self.backend,
            "precision": self.precision,
            "face_entry": {"runs": self.face_runs, "crops": self.face_crops},
            "streams": {
                name: {"captured": account.captured, "published": account.published, "dropped": account.dropped}
                for name, account in self.streams.items()
            },
            "stages_ms": self.stages_ms,
        }


def run(
    config: Config,
    *,
    stop: threading.Event,
    wait_for_subscriber_s: float = 0.0,
    started: Callable[[str], None] = lambda address: None,
) -> Summary:
    """Run every stream of a configuration until all have ended or ``stop`` is set.

    Args:
        config: what to run.
        stop: set it to end the run; frames on their way are finished.
        wait_for_subscriber_s: hold the first frame back until somebody listens, for so long at most.
        started: called with the address of the results socket once everything is open.

    Raises:
        TrunklineError: something in the configuration cannot be had; nothing has run then. Or StageError: a stage
            crashed too often.
    """
    for stream in config.streams:
        check_source(stream)
    model = load_model(config.model.path)
    _check_tasks(config, model)
    with ExitStack() as opened:
        publisher = opened.enter_context(Publisher(config.publish))
        frame_engine = opened.enter_context(_engine(config, model, "frame"))
        face_engine = gallery = recorder = None
        if config.identity.gallery is not None:
            gallery = opened.enter_context(Gallery(config.identity.gallery, model.fingerprint))
            face_engine = opened.enter_context(_engine(config, model, "face"))
        if config.record.directory is not None:
            recorder = Recorder(config.record.directory, model.spec.objects, model.spec.scenes)  # its stage closes it
        started(publisher.address)
        _await_subscriber(publisher, wait_for_subscriber_s, stop)
        pipeline = Pipeline(config, model, publisher, frame_engine, face_engine, gallery, recorder, stop)
        return pipeline.run()


def _check_tasks(config: Config, model: Model) -> None:
    """Raise ModelError where the model has not what the configuration takes for granted."""
    model.spec.entry("frame")
    if config.identity.gallery is not None:
        model.require(("faces", "identity"), "identity.gallery")  # with any other model nobody would ever be named


def _await_subscriber(publisher: Publisher, patience_s: float, stop: threading.Event) -> None:
    end = time.monotonic() + patience_s
    while not stop.is_set():
        left_s = end - time.monotonic()
        if left_s <= 0.0:
            if patience_s:
                log.warning("nobody subscribed", waited_s=patience_s)
            return
        if publisher.wait_for_subscriber(min(left_s, STOP_NOTICED_S)):
            return


def _engine(config: Config, model: Model, entry: EntryName) -> Engine:
    return open_engine(model, entry, config.model.backend, config.model.precision)


def effective_thresholds(config: Config, model: Model) -> Thresholds:
    """The model's thresholds, or those that the configuration puts in their place."""
    own, chosen = model.spec.thresholds, config.inference
    given = {
        "object_score": chosen.object_score,
        "face_score": chosen.face_score,
        "identity_similarity": config.identity.similarity,
    }
    return msgspec.structs.replace(own, **{name: value for name, value in given.items() if value is not None})


def unsure_thresholds(sure: Thresholds, share: float) -> Thresholds:
    """What detection lets through to the trackers, which carry tracks on with weaker detections than begin one."""
    return msgspec.structs.replace(sure, object_score=sure.object_score * share, face_score=sure.face_score * share)


class Pipeline:
    """The stages of one run and the links between them, all opened by :func:`run`."""

    def __init__(
        self,
        config: Config,
        model: Model,
        publisher: Publisher,
        frame_engine: Engine,
        face_engine: Engine | None,
        gallery: Gallery | None,
        recorder: Recorder | None,
        stop: threading.Event,
    ) -> None:
        spec, names = model.spec, tuple(stream.name for stream in config.streams)
        self.config = config
        self.size = (frame_engine.spec.height, frame_engine.spec.width)
        self.publisher = publisher
        self.frame_engine = frame_engine
        self.recorder = recorder
        self.stop = stop
        self.accounts = Accounts()
        self.times = StageTimes()
        self.ended: set[str] = set()  # streams that said so themselves

        # What outlives a crash of its stage.
        thresholds = effective_thresholds(config, model)
        person = spec.objects.index("person") if "person" in spec.objects else None
        self.thresholds = unsure_thresholds(thresholds, config.tracking.unsure_share)
        self.trackers = Trackers(config.tracking, thresholds, person)
        self.identifier = None
        if face_engine is not None and gallery is not None:
            self.identifier = Identifier(face_engine, gallery, config.identity, thresholds.identity_similarity)
        self.smoothers = Smoothers(config.smoothing, len(spec.objects), len(spec.scenes))
        self.announcer = Announcer(publisher, self.accounts, spec)

        # The links; only the first ever drops a frame.
        live = {stream.name: is_live(stream.source) for stream in config.streams}
        self.frames = FrameLink(Batcher(live, config.inference.max_batch), self.accounts, names)
        self.prepared: QueueLink[Prepared] = QueueLink(BATCHES_WAITING)
        self.inferred: QueueLink[Inferred] = QueueLink(BATCHES_WAITING)
        self.results: QueueLink[Result] = QueueLink(RESULTS_WAITING)
        self.workers = Workers(self._give_up)

    # The way of a frame: one thread per stream captures, then one thread each prepares, infers, and does the rest.

    def _capture(self, stream: StreamSettings) -> None:
        def stage(_: Iterator[Frame]) -> Iterator[Frame]:
            return capture(stream, stop=self.stop, accounts=self.accounts, health=self._tell)

        try:
            supervise(f"capture {stream.name}", stage, (), self.frames.put, self.accounts)
        finally:
            self.frames.finish(stream.name)

    def _prepare(self) -> None:
        def stage(batches: Iterator[Batch]) -> Iterator[Prepared]:
            return preprocess(batches, self.size)

        batches = self.frames.batches(self.config.inference.window_ms / 1000)
        supervise("preprocess", stage, batches, self.prepared.put, self.accounts)
        self.prepared.finish()

    def _infer(self) -> None:
        def stage(prepared: Iterator[Prepared]) -> Iterator[Inferred]:
            return infer(prepared, self.frame_engine)

        supervise("infer", stage, self.prepared, self.inferred.put, self.accounts)
        self.inferred.finish()

    def _postprocess(self) -> None:
        def stage(inferred: Iterator[Inferred]) -> Iterator[Result]:
            observed = detect(inferred, self.thresholds)
            tracked = track(observed, self.trackers)
            identified = identify(tracked, self.identifier)
            smoothed = smooth(identified, self.smoothers)
            return publish(smoothed, self.announcer)

        supervise("postprocess", stage, self.inferred, self._finished, self.accounts)
        self.results.finish()

    def _finished(self, result: Result) -> None:
        self.times.add(result)
        if self.recorder is not None:
            try:
                self.results.put(result)
            except LinkClosed:
                return  # the recorder failed and said so; the messages go on

    def _record(self, recorder: Recorder) -> None:
        try:
            for _ in record(iter(self.results), recorder):
                pass
        except Exception:  # a full disk ends the recording, not the run
            log.exception("recording failed")
            self.results.abandon()

    # Beginning and end.

    def run(self) -> Summary:
        """Start all threads and wait until every frame is accounted for."""
        began = time.monotonic()
        if self.recorder is not None:
            self.workers.start("record", partial(self._record, self.recorder))
        self.workers.start("postprocess", self._postprocess)
        self.workers.start("infer", self._infer)
        self.workers.start("preprocess", self._prepare)
        for stream in self.config.streams:
            self.workers.start(f"capture {stream.name}", partial(self._capture, stream))
        try:
            while not self.workers.join(STOP_NOTICED_S):
                if self.stop.is_set():
                    self._drain()
        except BaseException:
            self._give_up()
            self.workers.join(HURRY_S)
            raise
        if self.workers.failure is not None:
            raise self.workers.failure
        self._say_stopped()
        return self._summary(time.monotonic() - began)

    def _drain(self) -> None:
        """The run was stopped: frames on their way are finished, unless that takes too long."""
        limit = DRAIN_S + max(stream.timeout_s for stream in self.config.streams)  # a source may hang in a read
        if not self.workers.join(limit):
            log.warning("frames given up", after_s=limit)
            self._give_up()
            self.workers.join()

    def _give_up(self) -> None:
        """Break all links; what they hold is counted as dropped."""
        self.stop.set()
        self._drop(self.frames.abandon())
        for link in (self.prepared, self.inferred):
            for item in link.abandon():
                self._drop(item.frames)
        self.results.abandon()

    def _drop(self, frames: tuple[Frame, ...]) -> None:
        for frame in frames:
            self.accounts.dropped(frame.stream, "shutdown")

    def _tell(self, report: Health) -> None:
        """Log and publish what happened to a stream; its end is told after its last frame."""
        if report.state == "ended":
            patience = time.monotonic() + SETTLE_S
            while self.accounts.of(report.stream).in_flight and time.monotonic() < patience:
                time.sleep(0.005)
            self.ended.add(report.stream)
        log.info("stream " + report.state, stream=report.stream, cause=report.cause)
        self._send_health(report)

    def _say_stopped(self) -> None:
        """The last word on the streams that the run's stop ended."""
        for stream in self.config.streams:
            if stream.name not in self.ended:
                self._send_health(Health(stream.name, "ended", "the run was stopped", time.time_ns()))

    def _send_health(self, report: Health) -> None:
        account = self.accounts.of(report.stream)
        self.publisher.send(
            HealthMessage(
                stream=report.stream,
                at=timestamp(report.at_ns),
                state=report.state,
                cause=report.cause,
                captured=account.captured,
                published=account.published,
                dropped=account.dropped,
            )
        )

    def _summary(self, seconds: float) -> Summary:
        identifier = self.identifier
        return Summary(
            seconds=seconds,
            streams={stream.name: self.accounts.of(stream.name) for stream in self.config.streams},
            stages_ms=self.times.summary(),
            backend=self.frame_engine.backend,
            precision=self.frame_engine.precision,
            face_runs=identifier.runs if identifier else 0,
            face_crops=identifier.crops if identifier else 0,
        )
