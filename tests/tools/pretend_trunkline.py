"""Stands in for the ``trunkline`` command: enrols nobody, and sends messages about nothing.

What it does is said by the environment: PRETEND_FRAMES to send, PRETEND_LOST frames missing from the books,
PRETEND_ENROLL and PRETEND_RUN exit statuses. It notes its command lines in PRETEND_LOG.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import zmq

from pipeline.frames.clock import timestamp
from pipeline.settings.load import load
from pipeline.settings.schema import RecordSettings
from pipeline.sinks.video import Recorder
from pipeline.wire.messages import FaceMessage, FrameMessage, IdentityMessage, TimingsMessage, encode, topic
from tests.pipeline.made_results import OBJECTS, SCENES, make_result

RATE = 25
LIVE_FROM = 450  # the frame from which Grace Hopper has her name
FACE_BOX = (10.0, 10.0, 20.0, 20.0)


def main(arguments: list[str]) -> int:
    with open(os.environ["PRETEND_LOG"], "a") as log:
        log.write(json.dumps(arguments) + "\n")
    verb, *rest = arguments
    if verb == "enroll":
        print("error: no face in the photo" if "PRETEND_ENROLL" in os.environ else "enrolled")
        return int(os.environ.get("PRETEND_ENROLL", 0))
    if "PRETEND_RUN" in os.environ:
        print("error: model n: cannot read spec.json", file=sys.stderr)
        return int(os.environ["PRETEND_RUN"])
    return run(rest[0], Path(rest[rest.index("--summary") + 1]), "--wait-for-subscriber" in rest)


def run(config_file: str, summary: Path, waits: bool) -> int:
    """Send the messages as fast as they go, then for ever if PRETEND_FRAMES is 0, until SIGINT."""
    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(1))
    config = load(config_file)
    frames = int(os.environ.get("PRETEND_FRAMES", 750))
    sent = 0
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.bind(config.publish.address)
        if waits:
            socket.recv()  # the subscription
        while not stop and (frames == 0 or sent < frames):
            if sent == LIVE_FROM and config.streams[0].source.endswith("clip.mp4"):
                wait_for_enrolment()
            message = frame_message(sent)
            socket.send_multipart([topic(message), encode(message, "json")])
            sent += 1
            time.sleep(0.001)
        socket.close(linger=1000)
    if config.record.directory is not None:
        record_some(config.record)
    books = {"captured": sent + int(os.environ.get("PRETEND_LOST", 0)), "published": sent, "dropped": {}}
    summary.write_text(json.dumps({"streams": {"demo": books}, "stages_ms": {}}))
    return 0


def wait_for_enrolment() -> None:
    log = Path(os.environ["PRETEND_LOG"])
    end = time.monotonic() + 20
    while "Grace Hopper" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)  # for the demo to notice that its command is over


def frame_message(seq: int) -> FrameMessage:
    names = ["Eileen Collins"] + (["Grace Hopper"] if seq >= LIVE_FROM else [])
    faces = [FaceMessage(1, None, 0.9, FACE_BOX, (), IdentityMessage(name, 0.6)) for name in names]
    return FrameMessage(
        stream="demo",
        seq=seq,
        captured_at=timestamp(time.time_ns()),
        size=(64, 48),
        objects=(),
        faces=tuple(faces),
        scene=(),
        timings_ms=TimingsMessage(1.0, 2.0, 3.0, 6.0),
        dropped={},
    )


def record_some(settings: RecordSettings) -> None:
    with Recorder(settings, OBJECTS, SCENES) as recorder:
        for seq in range(3):
            pixels = np.zeros((48, 64, 3), dtype=np.uint8)
            recorder.write(make_result(pixels, stream="demo", seq=seq, time_s=seq / RATE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
