"""Links between processes: what a failure at either end leaves of slots and books."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import Batch, CropsSeen, Frame, Prepared, Ticket
from pipeline.runtime import zmq_link
from pipeline.runtime.graph import SOURCE, ProcessPlan
from pipeline.runtime.ring import Layout, Ring
from pipeline.runtime.supervision import supervise
from pipeline.runtime.transfer import write_picture
from pipeline.runtime.workers import capture as capturing
from pipeline.runtime.workers.capture import Admission
from pipeline.runtime.workers.spec import WorkerSpec
from pipeline.runtime.zmq_link import Receiver, Sender, WorkerContext
from pipeline.settings.schema import Config, RecordSettings
from tests.pipeline.made_frames import make_frame, names
from tests.pipeline.made_readers import held_by

PREPARE = ProcessPlan().reader(SOURCE.writes)
FIRST_CAPTURE = ProcessPlan().first_capture

PATIENCE_S = 30.0  # no test waits this long unless it fails


class MadeError(Exception):
    """Raised on purpose."""


@pytest.fixture
def rings() -> Iterator[tuple[Ring, Ring]]:
    frames = Ring.create(Layout(6, 3, ("door",)), "6 frames")
    inputs = Ring.create(Layout(2, 3), "2 batches", frames.lock)
    yield frames, inputs
    inputs.close()
    frames.close()


@pytest.fixture
def part(rings: tuple[Ring, Ring], tmp_path: Path) -> WorkerSpec:
    """Of a capture process with one live stream."""
    config: Any = {"streams": [{"name": "door", "source": "rtsp://camera/door"}], "model": {"path": "none"}}
    place = WorkerContext(FIRST_CAPTURE, *rings, str(tmp_path))
    made: Any = None  # what no admission of a live stream uses
    settings = msgspec.convert(config, Config)
    return WorkerSpec("capture 0", place, settings, settings.streams, {}, made, None, 0, made, made)


@pytest.fixture
def admission(part: WorkerSpec) -> Iterator[Admission]:
    made = Admission(part, part.streams[0])
    yield made
    made._frames.discard()
    made._reports.discard()


@pytest.fixture
def inlet(part: WorkerSpec) -> Iterator[Receiver[Frame]]:
    made = Receiver[Frame](replace(part.context, number=PREPARE))
    yield made
    made.close()


def admit_again(admission: Admission) -> None:
    """Put a frame, and after a crash another."""
    supervise("capture door", lambda _: iter([make_frame("door", 0)]), None, admission.put, admission.dropped)


def claimed(ring: Ring, *stream: str) -> Ticket:
    ticket = ring.claim(FIRST_CAPTURE, *stream)
    assert ticket is not None
    return ticket


def fail_once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> None:
    real, failed = getattr(where, name), threading.Event()

    def failing(*arguments: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise MadeError(name)
        return real(*arguments)

    monkeypatch.setattr(where, name, failing)


@pytest.mark.parametrize(
    ("between", "recorded", "copied"), [(True, None, False), (True, "videos", True), (False, None, True)]
)
def test_a_picture_is_copied_unless_nobody_looks_at_it(
    part: WorkerSpec, inlet: Receiver[Frame], between: bool, recorded: str | None, copied: bool
) -> None:
    config = msgspec.structs.replace(part.config, record=RecordSettings(directory=recorded))
    admission = Admission(replace(part, config=config), part.streams[0])
    sent = replace(make_frame("door", 0), between=between)
    admission.put(sent)
    frame = next(iter(inlet))
    assert (frame.picture.width, frame.picture.height) == (sent.picture.width, sent.picture.height)
    assert [plane.tolist() for plane in frame.picture.planes] == (
        [plane.tolist() for plane in sent.picture.planes] if copied else []
    )
    admission._frames.discard()
    admission._reports.discard()


def test_a_picture_that_cannot_be_written_is_counted_once_and_gives_its_slot_back(
    admission: Admission, rings: tuple[Ring, Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, capturing, "write_picture")
    admit_again(admission)
    assert rings[0].of("door") == FrameCounts(captured=2, published=0, dropped={"crash": 1})
    assert (held_by(rings[0], FIRST_CAPTURE), held_by(rings[0], PREPARE)) == (0, 1)


def test_a_frame_that_cannot_be_packed_is_counted_once_and_gives_its_slot_back(
    admission: Admission, rings: tuple[Ring, Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, zmq_link, "pack")
    admit_again(admission)
    assert rings[0].of("door") == FrameCounts(captured=2, published=0, dropped={"crash": 1})
    assert (held_by(rings[0], FIRST_CAPTURE), held_by(rings[0], PREPARE)) == (0, 1)


def test_a_frame_that_cannot_be_sent_is_counted_once_and_nobody_waits_for_it(
    admission: Admission, rings: tuple[Ring, Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        def send_multipart(self, parts: object) -> None:
            raise zmq.ZMQError(zmq.ENOTSOCK)

    frame = make_frame("door", 0)
    working, admission._frames._socket = admission._frames._socket, Closed()  # type: ignore[assignment]
    with pytest.raises(zmq.ZMQError):
        admission.put(frame)
    admission.dropped(frame, "crash")
    admission._frames._socket = working
    assert rings[0].of("door") == FrameCounts(captured=1, published=0, dropped={"crash": 1})
    assert held_by(rings[0], FIRST_CAPTURE) == 0
    assert not rings[0].pending(PREPARE)


def test_what_cannot_be_read_is_counted_and_what_comes_after_it_is_not_lost(
    part: WorkerSpec, rings: tuple[Ring, Ring], inlet: Receiver[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, _ = rings
    outlet: Sender[Frame] = Sender(part.context, PREPARE)

    def send(seq: int) -> None:
        ticket = claimed(frames, "door")
        frame = make_frame("door", seq)
        outlet.put(replace(frame, picture=write_picture(frame.picture, frames, ticket), ticket=ticket))

    fail_once(monkeypatch, zmq_link, "unpack")
    send(0)
    with pytest.raises(MadeError):
        next(iter(inlet))
    assert frames.of("door") == FrameCounts(captured=1, published=0, dropped={"crash": 1})
    send(1)
    frames.shut(PREPARE)
    assert names(list(inlet)) == ["door1"]
    outlet.close()


def test_an_item_of_which_a_part_was_given_up_is_not_waited_for(
    part: WorkerSpec, rings: tuple[Ring, Ring], inlet: Receiver[Frame]
) -> None:
    frames, inputs = rings
    outlet: Sender[Prepared] = Sender(part.context, PREPARE)
    tickets = [claimed(frames, "door"), claimed(frames, "door")]
    pixels = claimed(inputs)
    batch = Batch(tuple(replace(make_frame("door", seq), ticket=ticket) for seq, ticket in enumerate(tickets)), 0)
    outlet.put(Prepared(batch, inputs.pixels(pixels), (), 0, pixels))
    frames.release(PREPARE, [tickets[0]], "crash")
    frames.shut(PREPARE)
    reading = threading.Thread(target=lambda: list(inlet), daemon=True)
    reading.start()
    reading.join(PATIENCE_S)
    assert not reading.is_alive(), "the inlet waits for what is gone"
    assert frames.of("door") == FrameCounts(captured=2, published=0, dropped={"crash": 2})
    outlet.close()


def test_what_was_seen_in_crops_arrives(part: WorkerSpec, rings: tuple[Ring, Ring]) -> None:
    frames, _ = rings
    heard: list[Any] = []
    inlet = Receiver[Frame](part.context, heard.append)
    outlet: Sender[Frame] = Sender(part.context, part.context.number)
    outlet.tell(CropsSeen("door", ((0, 2, 288, 288),), np.array([[1, 2, 30, 40]], np.float32)))
    assert inlet.ready(round(1e3 * PATIENCE_S))
    frames.shut(part.context.number)
    assert list(inlet) == []
    (seen,) = heard
    assert (seen.stream, seen.crops, seen.boxes.tolist()) == ("door", ((0, 2, 288, 288),), [[1, 2, 30, 40]])
    outlet.close()
    inlet.close()
