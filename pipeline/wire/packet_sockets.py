"""The sockets that packets go through: each capture connects to a hub, which any number of readers connect to.

What readers subscribe to is told up to the captures: what nobody wants is not sent, and not even encoded.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

import structlog
import zmq

from engines.errors import ConfigError, MessageError
from pipeline.settings.redact import redact
from pipeline.settings.schema import PacketSettings
from pipeline.wire.connection_limit import ConnectionLimit
from pipeline.wire.curve import LONGEST_HEARD, is_loopback, parse_tcp
from pipeline.wire.held_folder import HeldFolder
from pipeline.wire.packets import TOPIC, PacketMessage, pack_packet, packet_topic, unpack_packet

HIGH_WATER_MARK: Final = 1000  # packets that wait for whoever is slow; later ones are lost to it
SUBSCRIBES: Final = 1  # first byte of a subscription; 0 takes one back
MAX_READ: Final = 128  # subscriptions between two packets
CLOSING_MS: Final = 500  # that the last packets of a capture may take to the hub
LONGEST_PACKET: Final = 1 << 26  # bytes; whoever sends more is disconnected

log = structlog.get_logger()


def check_packets_address(settings: PacketSettings) -> None:
    """Refuse with a ConfigError an address that other hosts could reach: there are no keys."""
    address = settings.address
    if address is None:
        return
    tcp = parse_tcp(address)
    if not (tcp and is_loopback(tcp[0])) and not (address.startswith("ipc://") and len(address) > len("ipc://")):
        raise ConfigError(
            f"packets.address is {redact(address)!r}, but must be ipc://PATH, or tcp://HOST:PORT that only this "
            "host can reach"
        )


def inner_address(folder: str) -> str:
    """Return where the captures of a run connect to, in the folder of its sockets."""
    return f"ipc://{folder}/packets"


class PacketHub:
    """Passes packets of all captures of a run on to their readers, in a thread of its own.

    Args:
        settings: say where readers connect to; no address: beside the sockets of the run.
        folder: of those; None: one of its own.

    Raises:
        ConfigError: the address is not allowed or taken.
    """

    def __init__(self, settings: PacketSettings, folder: str | None = None) -> None:
        check_packets_address(settings)
        self._own = HeldFolder("packets") if folder is None else None
        place = folder or (self._own.name if self._own else "")
        self.inner = inner_address(place)
        wanted = settings.address or f"ipc://{place}/packet-readers"
        self._context = zmq.Context()
        captures, readers = self._context.socket(zmq.XSUB), self._context.socket(zmq.XPUB)
        try:
            for socket in (captures, readers):
                socket.sndhwm = socket.rcvhwm = HIGH_WATER_MARK
                socket.linger = 0
            captures.maxmsgsize, readers.maxmsgsize = LONGEST_PACKET, LONGEST_HEARD
            ConnectionLimit(readers)
            readers.setsockopt(zmq.XPUB_VERBOSE, 1)  # each newcomer is told: it wants what there was since a key frame
            captures.bind(self.inner)
            try:
                readers.bind(wanted)
            except zmq.ZMQError as error:
                raise ConfigError(f"packets.address is {redact(wanted)!r}, which cannot be used: {error}") from error
        except BaseException:
            captures.close()
            readers.close()
            self._context.term()
            raise
        self.address = str(readers.get_string(zmq.LAST_ENDPOINT))
        self._thread = threading.Thread(target=_proxy, args=(captures, readers), name="packets", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pass nothing on any more; may be called twice."""
        self._context.term()
        self._thread.join()
        if self._own is not None:
            self._own.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _proxy(captures: "zmq.Socket[bytes]", readers: "zmq.Socket[bytes]") -> None:
    with suppress(zmq.ContextTerminated):
        zmq.proxy(captures, readers)
    captures.close()
    readers.close()


class PacketSender:
    """Sends the packets of one stream to a hub; never waits. For one thread.

    Args:
        address: of the hub's inner side.
        stream: whose packets it sends.
    """

    def __init__(self, address: str, stream: str) -> None:
        self._topic = packet_topic(stream)
        self._wanted: dict[bytes, bool] = {}  # what is subscribed to, of that which fits
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.sndhwm, self._socket.maxmsgsize = HIGH_WATER_MARK, LONGEST_HEARD
        self._socket.linger = 0
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.connect(address)

    @property
    def wanted(self) -> bool:
        """Whether anybody reads, as of the last :meth:`look`."""
        return bool(self._wanted)

    def look(self) -> bool:
        """Take in what readers say; whether there is a new one."""
        new = False
        for _ in range(MAX_READ):
            if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                break
            said = self._socket.recv()
            topic = said[1:]
            if not self._topic.startswith(topic):
                continue
            if said[0] == SUBSCRIBES:
                self._wanted[topic] = new = True
            else:
                self._wanted.pop(topic, None)
        return new

    def send(self, packet: PacketMessage) -> None:
        """Send a packet to whoever reads."""
        self._socket.send_multipart(pack_packet(packet))

    def close(self) -> None:
        """Close the socket; the packets sent last still reach the hub."""
        self._socket.close(linger=CLOSING_MS)
        self._context.term()


class PacketReader:
    """Reads packets of some streams, or of all. For one thread.

    Packets that came before, which are sent again for whoever is new, are passed over. What was lost is told by
    :attr:`lost`: whoever decodes then waits for a key frame.

    Args:
        address: of the hub.
        streams: their names; None: all there are.
        room: packets that may wait to be read; later ones are lost.
    """

    def __init__(self, address: str, streams: tuple[str, ...] | None = None, room: int = HIGH_WATER_MARK) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.rcvhwm, self._socket.maxmsgsize = room, LONGEST_PACKET
        self._socket.linger = 0
        self._last: dict[str, tuple[int, int]] = {}  # session and number
        self.lost: dict[str, int] = {}  # packets, by stream
        self._socket.connect(address)
        for topic in [TOPIC] if streams is None else map(packet_topic, streams):
            self._socket.subscribe(topic)

    def read(self, timeout_s: float) -> PacketMessage | None:
        """Return the next packet; None: none came in that time."""
        if not self._socket.poll(max(1, round(1000 * timeout_s))):
            return None
        return self._taken(self._socket.recv_multipart()[-1])

    def waiting(self) -> Iterator[PacketMessage]:
        """Yield the packets that are here."""
        with suppress(zmq.Again):
            while True:
                packet = self._taken(self._socket.recv_multipart(zmq.DONTWAIT)[-1])
                if packet is not None:
                    yield packet

    def _taken(self, body: bytes) -> PacketMessage | None:
        try:
            packet = unpack_packet(body)
        except MessageError as error:
            log.warning("packet refused", cause=str(error))
            return None
        session, number = self._last.get(packet.stream, (-1, -1))
        if session > packet.session or (session == packet.session and number >= packet.number):
            return None
        if session == packet.session:
            self.lost[packet.stream] = self.lost.get(packet.stream, 0) + packet.number - number - 1
        self._last[packet.stream] = packet.session, packet.number
        return packet

    def fileno(self) -> int:
        """Return what an event loop may watch; read :meth:`waiting` until nothing is left each time."""
        return int(self._socket.get(zmq.FD))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
