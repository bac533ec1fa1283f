"""What leaves the socket, byte for byte, against what was recorded once: a change here is a change for subscribers.

``python -m tests.pipeline.wire.test_golden`` records anew, for when the schema is changed on purpose.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import zmq

from engines.decode import Detections, Faces, Objects
from engines.spec import EntrySpec, ModelSpec, NetworkSettings
from pipeline.frames.counters import FrameCounters
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Identified, Identity, Observed, Result, Timestamps, Tracked, Tracks
from pipeline.runtime.event_publisher import EventPublisher, publish
from pipeline.settings.schema import PublishSettings
from pipeline.sinks.zmq import Publisher
from pipeline.wire.messages import HealthMessage

GOLDEN = Path(__file__).parents[2] / "golden"
LABELS = ("person", "chair", "dog", "café")
SCENES = ("street", "room", "beach", "forest", "stage")
PEOPLE = (None, None, "Ada", "Grace", 'Zoë "Z"')
ENTRY = EntrySpec("x.onnx", "0", 32, 32, {})
SPEC = ModelSpec(1, "n", ENTRY, ENTRY, LABELS, SCENES, NetworkSettings())
LAST = HealthMessage(stream="door", at="", state="ended", cause="that was all")
PICTURE = Picture.from_rgb(np.zeros((1, 1, 3), np.uint8))


class Scene:
    """Tracks of one stream that come, stay, hide, change label or name, and end; whole numbers make them all."""

    def __init__(self, stream: str, seed: int, objects: int, faces: int) -> None:
        self._stream = stream
        self._rng = np.random.default_rng(seed)
        self._most = (objects, faces)
        self._alive: tuple[list[int], list[int]] = ([], [])
        self._next = [1, 1]
        self._labels: dict[int, int] = {}
        self._names: dict[int, str | None] = {}

    def frames(self, count: int) -> Iterator[Result]:
        """Finished frames; every seventh frame of the source is dropped."""
        for seq in range(count):
            objects, faces = self._tracks(0), self._tracks(1)
            for track in objects.ids.tolist():
                if track not in self._labels or self._chance(12):
                    self._labels[track] = int(self._rng.integers(len(LABELS)))
            for track in faces.ids.tolist():
                if track not in self._names or self._chance(6):
                    self._names[track] = PEOPLE[self._rng.integers(len(PEOPLE))]
            if seq % 7 != 6:
                yield self._result(seq, objects, faces)

    def _chance(self, one_in: int) -> bool:
        return int(self._rng.integers(one_in)) == 0

    def _tracks(self, kind: int) -> Tracks:
        alive = self._alive[kind]
        ended = [track for track in alive if self._chance(10)]
        alive[:] = [track for track in alive if track not in ended]
        while len(alive) < self._most[kind] and not self._chance(3):
            alive.append(self._next[kind])
            self._next[kind] += 1
        seen = [track for track in alive if not self._chance(8)]
        count = len(seen)
        corners = self._rng.integers(0, 1000 * 16, (count, 4)) / 16
        corners[:, 2:] = corners[:, :2] + 1 + corners[:, 2:] / 8
        return Tracks(
            ids=np.array(seen, np.int64),
            boxes=corners.astype(np.float32),
            scores=(self._rng.integers(0, 4097, count) / 4096).astype(np.float32),
            labels=np.zeros(count, np.int32),
            rows=self._rng.permutation(count),
            ended=np.array(ended, np.int64),
        )

    def _result(self, seq: int, objects: Tracks, faces: Tracks) -> Result:
        rng, count = self._rng, len(faces.ids)
        landmarks = (rng.integers(0, 1000 * 64, (count, 5, 2)) / 64).astype(np.float32)
        shares = rng.integers(0, 100, len(SCENES))
        scene = (shares / max(1, shares.sum())).astype(np.float32)
        label = int(rng.integers(-1, len(SCENES))) if seq % 5 == 0 else -1 if seq < 5 else seq // 5 % len(SCENES)
        captured = 1_795_425_247_120_000_000 + seq * 40_000_001
        frame = Frame(self._stream, seq, captured, captured, seq / 25, PICTURE)
        marks = captured + np.cumsum(rng.integers(0, 9_000_000, 5))
        found = Detections(
            Objects(objects.boxes, objects.scores, objects.labels), Faces(faces.boxes, faces.scores, landmarks), scene
        )
        tracked = Tracked.of(
            Observed(frame, found, Timestamps(*marks[:4].tolist())), objects, faces, rng.integers(0, 4, count)
        )
        names = (self._names[track] for track in faces.ids.tolist())
        identities = tuple(name and Identity(name, int(rng.integers(4097)) / 4096) for name in names)
        labels = np.array([self._labels[track] for track in objects.ids.tolist()], np.int32)
        scores = (rng.integers(0, 4097, len(labels)) / 4096).astype(np.float32)
        return Result.finished(Identified.with_names(tracked, identities), labels, scores, scene, label, int(marks[4]))


def wire(encoding: Literal["json", "msgpack"], objects: int, faces: int, frames: int) -> list[tuple[bytes, bytes]]:
    """Topic and body of all that two streams send."""
    results = [
        each
        for pair in zip(
            Scene("door", 1, objects, faces).frames(frames),
            Scene("yard", 2, objects, faces).frames(frames),
            strict=True,
        )
        for each in pair
    ]
    settings = PublishSettings(address="tcp://127.0.0.1:0", encoding=encoding, high_water_mark=100_000)
    counters = FrameCounters()
    with zmq.Context() as context, context.socket(zmq.SUB) as socket, Publisher(settings) as publisher:
        socket.rcvhwm, socket.rcvtimeo = 0, 5000
        socket.subscribe(b"")
        socket.connect(publisher.address)
        assert publisher.wait_for_subscriber(5.0)
        event_publisher = EventPublisher(publisher, counters, SPEC)
        for result in results:
            for _ in range(result.frame.seq - counters.of(result.frame.stream).captured + 1):
                counters.captured(result.frame.stream)
            counts = counters.of(result.frame.stream)
            for _ in range(counts.in_flight - 1):
                counters.dropped(result.frame.stream, "stale")
            list(publish([result], event_publisher))
            counters.published(result.frame.stream)
        publisher.send(LAST)
        heard = []
        while (parts := tuple(socket.recv_multipart()))[0] != b"health/door":
            heard.append(parts)
    return heard


def digest(parts: list[tuple[bytes, bytes]]) -> str:
    return hashlib.sha256(b"".join(len(part).to_bytes(4) + part for pair in parts for part in pair)).hexdigest()


def lines(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(topic + b" " + body + b"\n" for topic, body in parts)


@pytest.mark.integration
def test_messages_of_a_few_things_are_those_recorded() -> None:
    assert lines(wire("json", 4, 2, 16)).decode() == (GOLDEN / "messages.txt").read_text()


@pytest.mark.integration
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_messages_of_a_crowd_are_those_recorded(encoding: Literal["json", "msgpack"]) -> None:
    recorded = dict(line.split() for line in (GOLDEN / "messages.sha256").read_text().splitlines())
    assert digest(wire(encoding, 50, 10, 60)) == recorded[encoding]


if __name__ == "__main__":
    (GOLDEN / "messages.txt").write_bytes(lines(wire("json", 4, 2, 16)))
    digests = {encoding: digest(wire(encoding, 50, 10, 60)) for encoding in ("json", "msgpack")}
    (GOLDEN / "messages.sha256").write_text("".join(f"{name} {value}\n" for name, value in digests.items()))
