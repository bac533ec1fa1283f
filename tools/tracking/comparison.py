"""Our tracker and others on identical detections."""

import statistics
from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec
import numpy as np

from tools.tracking.evaluation import label_of
from tools.tracking.ours import OURS, follow
from tools.tracking.peers import PEERS, Settings, follow_peer, grid
from tools.tracking.scoring import Scores, score
from tools.tracking.sequences import TUNING, Rows, Sequence
from tools.tracking.simulated import CROWD, simulate

Follow = Callable[[Sequence], tuple[Rows, float]]

ROUNDS: Final = 9  # of the timing; the fastest counts, since whatever else ran can only slow it down


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One tracker on one class of one sequence."""

    tracker: str
    sequence: str
    label: str
    tuned_on: bool  # settings were chosen with this sequence
    scores: Scores


class TrackerSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time of one tracker in a crowd."""

    tracker: str
    cpu_ms_per_frame: float


class TrackerComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the pages show."""

    format: Literal[1] = 1
    settings: dict[str, dict[str, float]]  # of each tracker but ours, by its name; none: its own defaults
    tuning: tuple[str, ...]  # sequences that settings were chosen with, ours and the others'
    rows: tuple[Compared, ...]
    crowd: float  # detections a frame in the sequence that was timed
    speeds: tuple[TrackerSpeed, ...]


class TrackingStudy:
    """The comparison, one tracker on one class of one sequence at a time.

    Args:
        sequences: to compare on, simulated ones among them.
        tune: choose the best of a grid of settings for each peer, rather than just its defaults, on TUNING.
    """

    def __init__(self, sequences: list[Sequence], *, tune: bool) -> None:
        self._items = [(sequence, label) for sequence in sequences for label in sequence.classes]
        self._tune = tune
        self._grids: list[tuple[str, Settings]] = [
            (peer, settings) for peer in PEERS for settings in (grid(peer) if tune else ())
        ]
        self.steps = len(self._grids) + len(self._items) * (1 + len(PEERS) * (2 if tune else 1))

    def run(self) -> Iterator[TrackerComparison | None]:
        """Do it; None after each step, and the comparison at last."""
        settings: dict[str, Settings] = {peer: {} for peer in PEERS}
        found: dict[str, list[tuple[float, Settings]]] = {peer: [] for peer in PEERS}
        for peer, tried in self._grids:
            found[peer].append((self._tuning_score(peer, tried), tried))
            yield None
        if self._tune:
            settings |= {f"{peer}, tuned": max(found[peer], key=lambda each: each[0])[1] for peer in PEERS}
        trackers: dict[str, Follow] = {OURS: follow}
        trackers |= {name: _peer(name.removesuffix(", tuned"), chosen) for name, chosen in settings.items()}
        rows = []
        for sequence, label in self._items:
            alone = sequence.of_class(label)
            for name, following in trackers.items():
                tracks, _ = following(alone)
                rows.append(
                    Compared(
                        tracker=name,
                        sequence=sequence.name,
                        label=label_of(label),
                        tuned_on=sequence.name in TUNING,
                        scores=score(alone, tracks),
                    )
                )
                yield None
        crowd = simulate(CROWD)
        yield TrackerComparison(
            settings={name: dict(chosen) for name, chosen in settings.items()},
            tuning=TUNING,
            rows=tuple(rows),
            crowd=round(len(crowd.detections) / crowd.length, 1),
            speeds=_speeds({name: trackers[name] for name in (OURS, *PEERS)}, crowd),
        )

    def _tuning_score(self, peer: str, settings: Settings) -> float:
        """Mean HOTA over the classes of the sequences in TUNING."""
        scores = []
        for sequence, label in self._items:
            if sequence.name in TUNING:
                alone = sequence.of_class(label)
                scores.append(score(alone, follow_peer(peer, settings, alone)[0]).hota)
        return statistics.fmean(scores) if scores else 0.0


def _peer(name: str, settings: Settings) -> Follow:
    return lambda sequence: follow_peer(name, settings, sequence)


def _speeds(trackers: dict[str, Follow], crowd: Sequence) -> tuple[TrackerSpeed, ...]:
    # In turn, so that a machine that is slow for a while is so for all of them.
    seconds = np.array([[following(crowd)[1] for following in trackers.values()] for _ in range(ROUNDS)])
    best = (1e3 * seconds.min(axis=0) / crowd.length).tolist()
    return tuple(
        TrackerSpeed(tracker=name, cpu_ms_per_frame=round(ms, 4)) for name, ms in zip(trackers, best, strict=True)
    )
