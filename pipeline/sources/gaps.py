"""Where a file that was read to its end has lost pictures on the way; pure state."""

import heapq
from collections import Counter, deque
from typing import Final

FEW: Final = 10  # steps between packets; of fewer nothing can be said
GAP: Final = 1.5  # normal steps, from which a step is a gap
# Steps with the most bytes beside are not looked at, since they may be damaged themselves: one of so many, at most 4.
ODD_OF, ODD = 50, 4
NEAR: Final = 4  # packets that a gap in times may be beside its bytes: reordered pictures, shared pages
MAX_GAPS: Final = 1000  # that are kept
MAX_STEPS: Final = 10_000  # different lengths that are kept


class FileGaps:
    """Tells gaps of damage from those that were filmed so, by the bytes between two packets.

    FFmpeg passes over what it cannot read of a file, and says so in its log alone. A camera that gave no picture for a
    moment left nothing between the packets but what lies between all of them (headers, sound); after damage there are
    the bytes of pictures, too.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None  # when the last packet is decoded, and where it ends
        self._count = self._sizes = self._beside = 0  # normal steps, bytes of their packets, and bytes beside these
        self._steps = Counter[int]()
        self._normal = 0  # the most frequent step
        self._largest: list[int] = []  # of the bytes beside
        self._near = deque[int](maxlen=NEAR + 1)  # bytes beside the last steps
        self._since = 0  # the last gap, packets
        self._gaps: list[tuple[int, int]] = []  # their steps, and the most bytes near them

    def reached(self, dts: int | None, begin: int | None, size: int) -> None:
        """A packet came: its decoding time in units of its stream, its first byte in the file, and how many it has."""
        before, self._last = self._last, None
        if dts is None or begin is None or begin < 0:
            return
        self._last = dts, begin + size
        if before is None or (step := dts - before[0]) <= 0:
            return
        beside = begin - before[1]
        self._near.append(beside)
        self._since += 1
        if self._gaps and self._since <= NEAR:
            last, found = self._gaps[-1]
            self._gaps[-1] = last, max(found, beside)
        if self._normal and step > GAP * self._normal:
            if len(self._gaps) < MAX_GAPS:
                self._gaps.append((step, max(self._near)))
                self._since = 0
            return
        self._count, self._sizes, self._beside = self._count + 1, self._sizes + size, self._beside + beside
        heapq.heappush(self._largest, beside)
        if len(self._largest) > ODD + 1:
            heapq.heappop(self._largest)
        if step in self._steps or len(self._steps) < MAX_STEPS:
            self._steps[step] += 1
            if self._steps[step] >= self._steps[self._normal]:
                self._normal = step

    @property
    def lost(self) -> int:
        """For how long it has lost pictures, in units of its stream."""
        steady = sum(count for step, count in self._steps.items() if abs(step - self._normal) <= 0.1 * self._normal)
        if self._count < FEW or steady < self._count / 2:
            return 0
        usual = sorted(self._largest, reverse=True)[min(ODD, self._count // ODD_OF)]
        picture, beside = self._sizes / self._count, self._beside / self._count
        return sum(
            step - self._normal
            for step, found in self._gaps
            if step > GAP * self._normal and found > usual + beside * step / self._normal + picture / 2
        )
