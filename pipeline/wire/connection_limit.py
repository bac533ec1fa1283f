"""How many peers a socket that listens may have: an open connection takes a descriptor, and a process has few."""

import resource
import socket as sockets
import threading
from contextlib import suppress
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

MAX_CONNECTIONS: Final = 1000  # of one socket, or ...
SHARE: Final = 4  # ... of so many parts of the descriptors that this process may have, one
HANDSHAKE_MS: Final = 5000  # who connects and says nothing is disconnected after so long
KEEPALIVE_S: Final = 60  # a host that lost its power is noticed after twice as long

_COUNTED: Final = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED


class ConnectionLimit:
    """Disconnects whoever comes when a socket has as many peers as it may have, in a thread of its own.

    Made before the socket binds, in the thread that has it; the thread ends when the socket is closed.

    Args:
        socket: not bound yet.
        most: connections; None: MAX_CONNECTIONS, or a quarter of the descriptors of this process where that is less.
    """

    def __init__(self, socket: zmq.Socket[Any], most: int | None = None) -> None:
        self.most = allowed_connections() if most is None else most
        self.refused = 0
        self._open: set[int] = set()
        socket.handshake_ivl = HANDSHAKE_MS
        socket.tcp_keepalive, socket.tcp_keepalive_idle = 1, KEEPALIVE_S
        socket.tcp_keepalive_intvl, socket.tcp_keepalive_cnt = KEEPALIVE_S // 4, 4
        self._events = socket.get_monitor_socket(_COUNTED | zmq.Event.MONITOR_STOPPED)
        self._thread = threading.Thread(target=self._watch, name="connections", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the thread has ended; call it once the socket is closed, before its context ends."""
        self._thread.join()

    def _watch(self) -> None:
        with suppress(zmq.ZMQError):  # the context is gone
            while (said := recv_monitor_message(self._events))["event"] != zmq.Event.MONITOR_STOPPED:
                self._take(said["event"], said["value"])
        self._events.close(linger=0)

    def _take(self, event: int, descriptor: int) -> None:
        if event == zmq.Event.DISCONNECTED:
            self._open.discard(descriptor)
        elif len(self._open) < self.most:
            self._open.add(descriptor)
        else:
            self.refused += 1
            _shut(descriptor)


def allowed_connections() -> int:
    """Return how many connections a socket of this process may have."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, descriptors // SHARE)


def _shut(descriptor: int) -> None:
    """Shut a connection that ZeroMQ then closes; one that it closed meanwhile may be another's by now."""
    with suppress(OSError):
        connection = sockets.socket(fileno=descriptor)
        try:
            connection.shutdown(sockets.SHUT_RDWR)
        finally:
            connection.detach()
