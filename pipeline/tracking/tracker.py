"""The tracker of one stream: its next frame alone, and how tracks go on while the network does not look; pure state."""

from dataclasses import replace

import numpy as np

from engines.arrays import Double
from pipeline.frames.types import Tracks
from pipeline.tracking.association import by_coordinate
from pipeline.tracking.found import TrackerInput
from pipeline.tracking.table import StreamTracks
from pipeline.tracking.update import NO_ROWS, NextFrame, TrackingRules, inside, update_together


class Tracker:
    """Tracks of one stream; pure state, times are stream time.

    Args:
        rules: how tracks begin, go on and end; trackers that are updated together share them.
        first_id: of the tracks of each kind.

    Attributes:
        state: all that is known of the stream.
    """

    def __init__(self, rules: TrackingRules, first_id: int = 1) -> None:
        self._rules = rules
        self.state = StreamTracks([first_id] * rules.bar.kinds)

    def update(
        self,
        time_s: float,
        *seen: TrackerInput,
        size: tuple[int, int],
        motion: Double | None = None,
        stands_for: int = 1,
    ) -> tuple[Tracks, ...]:
        """Take the next frame alone; see :func:`update_together` and :class:`NextFrame`."""
        return update_together(self._rules, [NextFrame(self.state, time_s, seen, size, motion, stands_for)])[0]

    def carry(self, time_s: float) -> None:
        """Let time pass in which nothing moved: what was seen last is still seen, what was not goes on missing."""
        state = self.state
        if state.time_s is not None:
            unseen = state.table.unseen_s
            unseen[unseen > 0.0] += max(0.0, time_s - state.time_s)
        state.time_s = time_s

    def predicted(self, time_s: float, *shown: Tracks, size: tuple[int, int]) -> tuple[Tracks, ...]:
        """Return what was last shown where it is at ``time_s``, a frame that is not inferred; nothing here changes.

        Args:
            time_s: stream time, after that of the last frame.
            shown: of each kind, with the last frame that was inferred.
            size: width and height of the picture.
        """
        if not any(len(one.ids) for one in shown):
            return tuple(replace(one, ended=NO_ROWS) for one in shown)
        table, later_s = self.state.table, max(0.0, time_s - (self.state.time_s or 0.0))
        ahead, limits = table.filters.predicted(table.unseen_s + later_s, later_s), np.array([*size, *size])[:, None]
        out = []
        for kind, one in enumerate(shown):
            (rows,) = ((table.kinds == kind) & (table.ids[:, None] == one.ids).any(axis=1)).nonzero()
            boxes = inside(ahead.take(rows, 1), by_coordinate(one.boxes), np.arange(len(rows)), limits)
            out.append(replace(one, boxes=boxes, ended=NO_ROWS))
        return tuple(out)

    def lose(self) -> None:
        """What was seen will not come back: all tracks end with the next frame."""
        self.state.table.unseen_s[:] = np.inf
