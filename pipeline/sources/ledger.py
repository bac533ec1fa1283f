"""Which packets of a stream gave a picture, and which gave none; pure state."""

from collections import deque
from typing import Final

REORDERED: Final = 32  # packets that a picture may be shown before another that was sent earlier: H.264 has 16 at most


class PacketLedger:
    """Packets by number, in the order in which they are sent to a decoder, until each has given a picture or is lost.

    A packet has given none when it was refused, when pictures of much later ones have come, and at the end. The packet
    after one that gave an interlaced picture may be its second field, which gives no picture of its own: it is lost
    only when it was refused.
    """

    def __init__(self) -> None:
        self._open: dict[int, None] = {}  # in order
        self._fields: deque[int] = deque(maxlen=2 * REORDERED)
        self._newest = -1  # whose picture came

    @property
    def oldest(self) -> int | None:
        """The first packet that is still open."""
        return next(iter(self._open), None)

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def sent(self, number: int) -> None:
        """A packet goes to the decoder."""
        self._open[number] = None

    def refused(self, number: int) -> int:
        """The decoder refused this packet; returns how many are lost by that."""
        return 1 if self._open.pop(number, self) is None else 0

    def gave(self, number: int | None, interlaced: bool = False) -> int:
        """A picture came of this packet (None: of the oldest); returns how many before it are lost."""
        number = self.oldest if number is None else number
        if number is None:
            return 0
        self._open.pop(number, None)
        if interlaced:
            self._fields.append(number + 1)
        self._newest = max(self._newest, number)
        return self._close(self._newest - REORDERED)

    def end(self) -> int:
        """No picture comes any more; returns how many packets gave none."""
        return self._close(self._newest + 2**62)

    def _close(self, before: int) -> int:
        lost = 0
        while (number := self.oldest) is not None and number < before:
            del self._open[number]
            lost += number not in self._fields
        return lost
