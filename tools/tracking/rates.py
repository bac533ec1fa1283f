"""What is saved and what is lost where clips are inferred at lower rates: ``trunkline evaluate rates``.

The network sees every frame of a clip once. Its detections then go the rest of the way, as in a run, once for each
rate, and what comes out is held against what comes out at the full rate.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import Final

import msgspec
import numpy as np

from engines.arrays import Float
from engines.engine import Engine
from engines.spec import Model
from pipeline.events.log import EventLog
from pipeline.events.zones import ZoneCounter
from pipeline.frames.events import Event
from pipeline.frames.picture import Picture
from pipeline.frames.types import Batch, Frame, Observed, Result, Skipped, Tracks
from pipeline.identity.stage import identify
from pipeline.inference.preprocess import preprocess
from pipeline.inference.stage import collect, detect, open_entry, start
from pipeline.runtime.postprocess import effective_thresholds, low_score_thresholds
from pipeline.settings.schema import Config, InferenceRate, LineSettings, StreamSettings, ZoneSettings
from pipeline.smoothing.stage import Smoothers, smooth
from pipeline.sources.capture import capture
from pipeline.sources.cuts import mark_cuts
from pipeline.sources.rate import Rates, mark_skipped
from pipeline.tracking.association import by_coordinate, overlapping
from pipeline.tracking.stage import Trackers, track

CLIP: Final = "clip"
LASTING_S: Final = 1.0  # what is followed for less is not asked for: the full rate flickers, too
APART_S: Final = 1.0  # by which two times of one event may differ
SAME_IOU: Final = 0.5  # of two boxes of one thing in one frame
FOLLOWED: Final = 0.5  # share of a track's frames in which it must be found again
RUNS: Final = 30  # of the network, to know what one costs
NO_PICTURE: Final = Picture((), 0, 0)
ZONES: Final = (ZoneSettings(name="middle", points=((0.25, 0.25), (0.75, 0.25), (0.75, 0.95), (0.25, 0.95))),)
LINES: Final = (
    LineSettings(name="upright", points=((0.5, 0.0), (0.5, 1.0))),
    LineSettings(name="level", points=((0.0, 0.6), (1.0, 0.6))),
)

Seen = dict[int, Observed]  # by the number of the frame, whose picture is not kept
Tube = dict[int, Float]  # frame -> the box (4,) of one track


class RateFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One clip at one rate. What counts is what lasts for LASTING_S at least, of objects and faces together."""

    clip: str
    clip_fps: float
    fps: InferenceRate
    frames: int
    inferred: int
    cpu_ms_per_s: float  # of a second of the clip: decoding, choosing, the network, all that follows but the sockets
    network_ms_per_s: float  # of that
    boxes: int  # at the full rate, in all frames
    boxes_found: int  # of those, with the same label and an IoU of SAME_IOU
    tracks: int
    tracks_found: int
    events: int
    events_found: int
    events_added: int  # which the full rate does not have
    delay_s: float | None  # median over what is new in both; None: nothing is


@dataclass(frozen=True, slots=True)
class _Followed:
    """What came out at one rate."""

    frames: int
    inferred: int
    cpu_s: float  # without the network
    tubes: dict[tuple[str, int], tuple[str, Tube]]  # kind and track -> its last label and its boxes
    events: list[Event]


def measure_clip(source: str, model: Model, config: Config, rates: Sequence[InferenceRate]) -> Iterator[RateFigures]:
    """Follow a clip at the full rate and at each of the ``rates`` that are lower.

    Raises:
        SourceError: it cannot be played.
    """
    settings = StreamSettings(name=CLIP, source=source)
    with open_entry(model, "frame", config.model) as engine:
        seen, network_s = _see(settings, model, config, engine)
    times = sorted(each.frame.time_s for each in seen.values())
    fps = round(1.0 / median(np.diff(times).tolist() or [1.0]), 2)
    full = _follow(settings, seen, model, config, "full")
    for rate in ("full", *rates):
        if isinstance(rate, str) or rate < fps:
            lower = full if rate == "full" else _follow(settings, seen, model, config, rate)
            yield _figures(source, fps, rate, network_s, full, lower)


def _frames(settings: StreamSettings) -> Iterator[Frame]:
    with closing(capture(settings, stop=threading.Event(), health=lambda report: None)) as frames:
        yield from mark_cuts(frames)


def _see(settings: StreamSettings, model: Model, config: Config, engine: Engine) -> tuple[Seen, float]:
    """What the network sees in each frame, by its number, and the CPU seconds that a frame costs there."""
    thresholds = low_score_thresholds(effective_thresholds(config, model), config.tracking.low_score_ratio)
    size, seen, frame = (engine.spec.height, engine.spec.width), Seen(), None

    def run(frame: Frame) -> Observed:
        prepared = preprocess([Batch((frame,), 0)], size)
        ((observed,),) = detect(collect(start(prepared, engine)), lambda: thresholds, config.inference.nms)
        assert isinstance(observed, Observed)
        return observed

    for frame in _frames(settings):
        seen[frame.seq] = replace(run(frame), frame=replace(frame, picture=NO_PICTURE))
    if frame is None:
        return seen, 0.0
    began = time.process_time()
    for _ in range(RUNS):
        run(frame)
    return seen, (time.process_time() - began) / RUNS


def _follow(settings: StreamSettings, seen: Seen, model: Model, config: Config, rate: InferenceRate) -> _Followed:
    spec, sure = model.spec, effective_thresholds(config, model)
    person = spec.objects.index("person") if "person" in spec.objects else None
    log = EventLog(spec.objects, spec.scenes, {CLIP: ZoneCounter(ZONES, LINES, spec.objects)})
    smoothers = Smoothers(config.smoothing, len(spec.objects), len(spec.scenes))
    inferred, wanted = 0, Rates(rate, config.inference.min_rate_hz)

    def items() -> Iterator[Observed | Skipped]:
        nonlocal inferred
        for frame in mark_skipped(_frames(settings), lambda: wanted, live=False):
            known = seen[frame.seq]
            if frame.unchanged or frame.between:
                yield Skipped(frame, known.timestamps)
            else:
                inferred += 1
                yield Observed(frame, known.detections, known.timestamps)

    began = time.process_time()
    tubes: dict[tuple[str, int], tuple[str, Tube]] = {}
    events: list[Event] = []
    frames = 0
    tracked = track(([item] for item in items()), Trackers(config.tracking, sure, person))
    for result in chain.from_iterable(smooth(identify(tracked, None), smoothers)):
        frames += 1
        events += log.update(result)
        _note(tubes, result, spec.objects)
    events += log.end(CLIP, "stopped")
    return _Followed(frames, inferred, time.process_time() - began, tubes, events)


def _note(tubes: dict[tuple[str, int], tuple[str, Tube]], result: Result, labels: Sequence[str]) -> None:
    """Add the boxes of a frame to those of their tracks."""

    def add(kind: str, tracks: Tracks, names: Sequence[str]) -> None:
        for number, box, name in zip(tracks.ids.tolist(), tracks.boxes, names, strict=True):
            _, tube = tubes.get((kind, number), ("", {}))
            tube[result.frame.seq] = box
            tubes[kind, number] = name, tube

    add("object", result.objects, [labels[label] for label in result.labels.tolist()])
    add("face", result.faces, ["face"] * len(result.faces.ids))


def _figures(
    source: str, fps: float, rate: InferenceRate, network_s: float, full: _Followed, lower: _Followed
) -> RateFigures:
    least = LASTING_S * fps
    wanted = {key: each for key, each in full.tubes.items() if len(each[1]) >= least}
    boxes, found, tracks_found = 0, 0, 0
    for key, (label, tube) in wanted.items():
        hits = _found_again(key[0], label, tube, lower.tubes)
        boxes, found = boxes + len(tube), found + hits[0]
        tracks_found += hits[1] >= FOLLOWED * len(tube)
    events, others = _lasting(full, least), _lasting(lower, least)
    delays = _delays(events, others, APART_S * fps)
    both = [(event, delay) for event, delay in zip(events, delays, strict=True) if delay is not None]
    news = [delay / fps for event, delay in both if event.event == "new"]
    seconds = full.frames / fps
    network_ms = 1e3 * network_s * lower.inferred / seconds
    return RateFigures(
        clip=source,
        clip_fps=fps,
        fps=rate,
        frames=full.frames,
        inferred=lower.inferred,
        cpu_ms_per_s=round(1e3 * lower.cpu_s / seconds + network_ms, 2),
        network_ms_per_s=round(network_ms, 2),
        boxes=boxes,
        boxes_found=found,
        tracks=len(wanted),
        tracks_found=tracks_found,
        events=len(events),
        events_found=len(both),
        events_added=sum(delay is None for delay in _delays(others, events, APART_S * fps)),
        delay_s=round(median(news), 3) if news else None,
    )


def _found_again(kind: str, label: str, tube: Tube, others: dict[tuple[str, int], tuple[str, Tube]]) -> tuple[int, int]:
    """In how many of a track's frames it is found again: by any track of the other run, and by the same one most."""
    counts = [
        sum(_iou(box, other[seq]) >= SAME_IOU for seq, box in tube.items() if seq in other)
        for (other_kind, _), (other_label, other) in others.items()
        if (other_kind, other_label) == (kind, label)
    ]
    return min(sum(counts), len(tube)), max(counts, default=0)


def _iou(one: Float, other: Float) -> float:
    pairs = overlapping(by_coordinate(one[None]), by_coordinate(other[None]))
    return float(pairs.ious[0]) if len(pairs) else 0.0


def _lasting(run: _Followed, frames: float) -> list[Event]:
    """The events of tracks that were followed for so many frames, and those of scenes."""

    def lasts(event: Event) -> bool:
        kind = "face" if event.kind == "face" else "object"
        return event.track is None or len(run.tubes.get((kind, event.track), ("", {}))[1]) >= frames

    return [event for event in run.events if lasts(event)]


def _delays(events: Sequence[Event], others: Sequence[Event], apart: float) -> list[int | None]:
    """By how many frames later each event comes among the others, of which each is used once; None: not at all."""
    free, delays = list(others), list[int | None]()
    for event in events:
        what = event.event, event.kind, event.label, event.name, event.direction
        alike = [
            other
            for other in free
            if (other.event, other.kind, other.label, other.name, other.direction) == what
            and abs(other.seq - event.seq) <= apart
        ]
        if not alike:
            delays.append(None)
            continue
        best = min(alike, key=lambda other: abs(other.seq - event.seq))
        free.remove(best)
        delays.append(best.seq - event.seq)
    return delays
