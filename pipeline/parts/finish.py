"""The finish process: all after the engine, to the message and the recording."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import structlog

from engines.spec import load_model
from pipeline.finish import Finisher
from pipeline.gallery import Gallery
from pipeline.inference import open_entry
from pipeline.links import LinkClosed, QueueLink
from pipeline.parts.part import Done, Opened, Part, Pipe, drop
from pipeline.publish import Publisher, health_message, settle
from pipeline.record import Recorder, record
from pipeline.supervision import Workers, supervise
from pipeline.types import Health, Inferred, Result
from pipeline.zmq_link import Happened, Inlet, Word
from pipeline.zones import places_of

RESULTS_WAITING: Final = 8  # before the recorder

log = structlog.get_logger()


def finish(part: Part, pipe: "Pipe[Any, Any]") -> None:
    """Turn the engine's outputs into messages until nothing more comes."""
    place, config = part.place, part.config
    model = load_model(config.model.path)
    with ExitStack() as opened:
        publisher = opened.enter_context(Publisher(config.publish))
        face_engine = gallery = recorder = None
        if config.identity.gallery is not None:
            gallery = opened.enter_context(Gallery(config.identity.gallery, model.fingerprint))
            face_engine = opened.enter_context(open_entry(model, "face", config.model))
        if config.record.directory is not None:
            places = places_of(config, model.spec.objects)
            recorder = Recorder(config.record.directory, model.spec.objects, model.spec.scenes, places)
        finisher = Finisher(config, model, publisher, place.frames, face_engine, gallery, part.lives, part.journal)
        ending = Ending(part, publisher, recorder, finisher.told)
        inlet = Inlet[Inferred](place, ending.heard)
        pipe.send(Opened({"address": publisher.address}))
        settle(publisher, part.journal, "crash")
        if part.lives == 0:
            stopped = partial(place.frames.is_shut, place.number)
            pipe.send(Opened({"subscribed": publisher.await_subscriber(pipe.recv(), stopped)}))
        supervise("postprocess", finisher.stage, ending.taken(inlet), ending.finished, partial(drop, place))
        ending.end()
    identifier = finisher.identifier
    pipe.send(
        Done(
            {
                "stages_ms": finisher.times.summary(),
                "batches": finisher.times.batches(),
                "carried": finisher.times.carried,
                "face_runs": identifier.runs if identifier else 0,
                "face_crops": identifier.crops if identifier else 0,
            }
        )
    )


class Ending:
    """The last steps of a frame: its message is out, it may be recorded, and its slots are given back."""

    def __init__(
        self, part: Part, publisher: Publisher, recorder: Recorder | None, told: Callable[[Health], None]
    ) -> None:
        self._told = told
        self._place, self._room, self._publisher = part.place, part.room, publisher
        self._streams = [stream.name for stream in part.config.streams]
        self._ended: set[str] = set()
        self._results: QueueLink[Result] = QueueLink(RESULTS_WAITING)
        self._recording = Workers(self._results.abandon)
        if recorder is not None:
            self._recording.start("record", partial(self._record, recorder))
        self._records = recorder is not None

    def taken(self, inferred: Iterable[Inferred]) -> Iterator[Inferred]:
        """Give the network's input back: its outputs are here."""
        for item in inferred:
            if item.prepared.ticket is not None:
                self._place.inputs.release(self._place.number, [item.prepared.ticket])
                self._room.ring()
            yield item

    def finished(self, result: Result) -> None:
        """A frame's message was sent."""
        if self._records:
            try:
                self._results.put(result)
            except LinkClosed:
                self._records = False  # the recorder failed and said so; the messages go on
            else:
                return
        self._give_back(result)

    def _give_back(self, result: Result) -> None:
        ticket = result.frame.ticket
        assert ticket is not None
        self._place.frames.release(self._place.number, [ticket])

    def _record(self, recorder: Recorder) -> None:
        writing: deque[Result] = deque()

        def noted() -> Iterator[Result]:
            for result in self._results:
                writing.append(result)
                yield result

        try:
            for _ in record(noted(), recorder):
                self._give_back(writing.popleft())
        except Exception:  # a full disk ends the recording, not the run
            log.exception("recording failed")
            for result in (*writing, *self._results.abandon()):
                self._give_back(result)

    def heard(self, word: Word) -> None:
        """Publish what happened to a stream."""
        assert isinstance(word, Happened), "nothing else is told to this process"
        if word.report.state == "ended":
            self._ended.add(word.report.stream)
        self._told(word.report)
        self._publisher.send(health_message(word.report, word.account))
        self._place.frames.tell(word.report.stream)

    def end(self) -> None:
        """The last word on the streams that the run's stop ended."""
        self._results.finish()
        self._recording.join()
        for name in self._streams:
            if name not in self._ended:
                report = Health(name, "ended", "the run was stopped", time.time_ns())
                self.heard(Happened(report, self._place.frames.of(name)))
