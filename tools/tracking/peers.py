"""The trackers of the package ``trackers``, fed with the same detections as ours."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from supervision import Detections
from trackers import ByteTrackTracker, OCSORTTracker, SORTTracker

from tools.tracking.sequences import Rows, Sequence

Settings = Mapping[str, float]

PEERS: Final[Mapping[str, Callable[..., Any]]] = {
    "SORT": SORTTracker,
    "ByteTrack": ByteTrackTracker,
    "OC-SORT": OCSORTTracker,
}
GRIDS: Final[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
    "SORT": {"track_activation_threshold": (0.5, 0.7, 0.9), "minimum_iou_threshold": (0.1, 0.3)},
    "ByteTrack": {"track_activation_threshold": (0.7, 0.9), "high_conf_det_threshold": (0.6, 0.8, 0.9)},
    "OC-SORT": {"high_conf_det_threshold": (0.5, 0.7, 0.8), "minimum_iou_threshold": (0.1, 0.3)},
}


def grid(peer: str) -> Iterator[Settings]:
    """The settings of ``peer`` that are tried, its defaults first."""
    yield {}
    names, values = zip(*GRIDS[peer].items(), strict=True)
    for chosen in itertools.product(*values):
        yield dict(zip(names, chosen, strict=True))


def follow_peer(peer: str, settings: Settings, sequence: Sequence) -> tuple[Rows, float]:
    """The tracks that ``peer`` finds, and the CPU seconds of its updates alone.

    Args:
        peer: one of PEERS.
        settings: arguments of the peer's own; the frame rate is the sequence's.
        sequence: whose detections all are of one class.
    """
    tracker = PEERS[peer](frame_rate=sequence.rate, **settings)
    # Told the time only where frames are missing: at a fixed rate its authors leave it out.
    even = np.allclose(np.diff(sequence.times), 1 / sequence.rate)
    times = [None] * sequence.length if even else sequence.times.tolist()
    given = [
        Detections(xyxy=frame.boxes, confidence=frame.scores, class_id=frame.classes)
        for frame in sequence.detections.by_frame(sequence.length)
    ]
    began = time.thread_time()
    found = [tracker.update(frame, timestamp=time_s) for frame, time_s in zip(given, times, strict=True)]
    seconds = time.thread_time() - began
    shown = [frame[frame.tracker_id >= 0] for frame in found]
    rows = Rows(
        np.repeat(np.arange(1, sequence.length + 1), [len(frame) for frame in shown]),
        np.concatenate([frame.tracker_id for frame in shown]).astype(np.int64),
        np.concatenate([frame.xyxy.reshape(-1, 4) for frame in shown]).astype(np.float32),
        np.concatenate([_column(frame.confidence) for frame in shown]).astype(np.float32),
        np.concatenate([_column(frame.class_id) for frame in shown]).astype(np.int32),
    )
    return rows, seconds


def _column(values: Any) -> Any:
    return np.zeros(0) if values is None else values
