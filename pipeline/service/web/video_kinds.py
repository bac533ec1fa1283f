"""How the video of each stream can be had, as one packet of it tells."""

import threading
import time
from contextlib import closing
from typing import Final, Literal

from engines.errors import MessageError
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packet_sockets import PacketReader
from pipeline.wire.packets import PacketMessage

Kind = Literal["mse", "mjpeg", "none"]

PATIENCE_S: Final = 3.0  # that the first packet may take
FRESH_S: Final = 30.0  # after which a packet is looked at again: a camera may have been set otherwise
UNKNOWN_S: Final = 3.0  # the same, of a stream that sent none

NONE: Final[tuple[Kind, str | None]] = ("none", None)


class VideoKinds:
    """Looks at one packet of each stream that is asked for, beside whoever asks. Thread-safe.

    Args:
        address: where packets are read; None: nowhere.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._known: dict[str, tuple[Kind, str | None]] = {}
        self._looked_s: dict[str, float] = {}  # when it was begun
        self._lock = threading.Lock()

    def of(self, stream: str) -> tuple[Kind, str | None]:
        """Return how a stream's video can be had, and its codec as browsers name it, as far as is known by now."""
        if self._address is None:
            return NONE
        now_s = time.monotonic()
        with self._lock:
            known = self._known.get(stream, NONE)
            due = now_s - self._looked_s.get(stream, -FRESH_S) >= (UNKNOWN_S if known == NONE else FRESH_S)
            if due:
                self._looked_s[stream] = now_s
        if due:
            threading.Thread(target=self._look, args=(self._address, stream), daemon=True).start()
        return known

    def _look(self, address: str, stream: str) -> None:
        with closing(PacketReader(address, (stream,))) as reader:
            packet = reader.read(PATIENCE_S)
        if packet is not None:
            with self._lock:
                self._known[stream] = kind_of(packet)


def kind_of(packet: PacketMessage) -> tuple[Kind, str | None]:
    """Return how the video can be had that a packet is of.

    A packet that is no key frame may lack what tells the codec: pictures come of none.
    """
    if packet.codec == "mjpeg":
        return "mjpeg", None
    try:
        return "mse", Fragmenter(packet).codec
    except MessageError:
        return NONE
