"""The finish process: all after the engine, to the message and the recording."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from engines.spec import load_model
from pipeline.capture import waits_for_nobody
from pipeline.finish import Finisher
from pipeline.gallery import Gallery
from pipeline.inference import open_entry
from pipeline.parts.part import Done, Opened, Part, Pipe, drop
from pipeline.publish import Publisher, health_message, settle
from pipeline.pulse import Pulse
from pipeline.record import Recorder, Recording
from pipeline.supervision import Workers, supervise
from pipeline.types import Health, Inferred, Result, Ticket
from pipeline.zmq_link import Happened, Inlet, Word


def finish(part: Part, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
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
            recorder = Recorder(config.record, model.spec.objects, model.spec.scenes, config.streams)
        finisher = Finisher(config, model, publisher, place.frames, face_engine, gallery, part.lives, part.journal)
        ending = Ending(part, publisher, recorder, finisher)
        inlet = Inlet[Inferred](place, ending.heard)
        pipe.send(Opened({"address": publisher.address}))
        settle(publisher, part.journal, "crash")
        if part.lives == 0:
            stopped = partial(place.frames.is_shut, place.number)
            pipe.send(Opened({"subscribed": publisher.await_subscriber(pipe.recv(), stopped)}))

        def stage(inferred: Iterator[Inferred]) -> Iterator[Result]:
            return finisher.stage(ending.taken(inferred))

        supervise("postprocess", stage, inlet.__iter__, ending.finished, partial(drop, place), pulse)
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
                "left_out": ending.left_out,
            }
        )
    )


class Ending:
    """The last steps of a frame: its message is out, it may be recorded, and its slots are given back."""

    def __init__(self, part: Part, publisher: Publisher, recorder: Recorder | None, finisher: Finisher) -> None:
        self._finisher, self._bells = finisher, part.bells
        self._place, self._room, self._publisher = part.place, part.room, publisher
        self._streams, self._journal = [stream.name for stream in part.config.streams], part.journal
        self._recording: Recording | None = None
        self._recorder = Workers(lambda: None)  # it tells of its failures itself
        if recorder is not None:
            live = [stream.name for stream in part.config.streams if waits_for_nobody(stream)]
            self._recording = Recording(recorder, self._streams, live, self._give_back)
            self._recorder.start("record", self._recording.run)

    def taken(self, inferred: Iterable[Inferred]) -> Iterator[Inferred]:
        """Give the network's input back: its outputs are here."""
        for item in inferred:
            if item.prepared.ticket is not None:
                self._place.inputs.release(self._place.number, [item.prepared.ticket])
                self._room.ring()
            yield item

    def finished(self, result: Result) -> None:
        """A frame's message was sent."""
        if self._recording is None:
            self._give_back(result)
            return
        counts = self._finisher.counts(result.frame.stream)
        self._place.frames.published(self._place.number, _ticket(result))
        self._recording.take(result, counts)

    @property
    def left_out(self) -> dict[str, int] | None:
        """How many frames the recording has not, by stream; None: there is none."""
        return None if self._recording is None else self._recording.left_out

    def _give_back(self, result: Result) -> None:
        self._place.frames.release(self._place.number, [_ticket(result)])
        if self._recording is not None and result.frame.stream in self._bells:
            self._bells[result.frame.stream].ring()  # a file may wait for the slot

    def heard(self, word: Word) -> None:
        """Publish what happened to a stream."""
        assert isinstance(word, Happened), "nothing else is told to this process"
        self._finisher.told(word.report)
        self._publisher.send(health_message(word.report, word.account))
        if word.report.state == "ended":
            self._journal.over(word.report.stream)
        self._place.frames.tell(word.report.stream)

    def end(self) -> None:
        """The last word on the streams that the run's stop ended."""
        if self._recording is not None:
            self._recording.finish()
            self._recorder.join()
        for name in self._streams:
            if not self._journal.is_over(name):
                report = Health(name, "ended", "the run was stopped", time.time_ns())
                self.heard(Happened(report, self._place.frames.of(name)))


def _ticket(result: Result) -> Ticket:
    ticket = result.frame.ticket
    assert ticket is not None, "the frame is not in shared memory"
    return ticket
