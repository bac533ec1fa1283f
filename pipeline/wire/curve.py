"""What all sockets beyond this process have in common: their addresses, and the keys of those beyond this host."""

import ipaddress
import re
from pathlib import Path
from typing import Final

import zmq
import zmq.auth

_TCP: Final = re.compile(r"tcp://(\[[^\]\s]+\]|[^:/\[\]\s]+):(\*|\d{1,5})")
LARGEST_PORT: Final = 65535  # ZeroMQ would take one beyond it for another

# Bytes of a message that a socket takes which is there to send: a subscription to a topic, or a part of the handshake
# with keys, is shorter. Whoever sends more is disconnected.
LONGEST_HEARD: Final = 4096

# What a file with a key may fail with.
KEY_ERRORS: Final = (OSError, ValueError, zmq.ZMQError)


def parse_tcp(address: str) -> tuple[str, str] | None:
    """Host and port of ``tcp://HOST:PORT``, as they are written (the port may be ``*``); None where it is none."""
    match = _TCP.fullmatch(address)
    if match is None or (match[2] != "*" and int(match[2]) > LARGEST_PORT):
        return None
    return match[1], match[2]


def is_loopback(host: str) -> bool:
    """Whether nobody but this host can reach, or be reached at, an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen_with_key(socket: zmq.Socket[bytes], file: str | Path) -> None:
    """Let only those in who have the public half of the key in ``file``; one of KEY_ERRORS where it has none."""
    public, secret = zmq.auth.load_certificate(file)
    if secret is None:
        raise ValueError("it has no secret key")
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_server = True


def connect_with_key(socket: zmq.Socket[bytes], file: str | Path, own: str | Path | None = None) -> None:
    """Talk only to who has the secret half of the public key in ``file``; one of KEY_ERRORS where it has none.

    Args:
        socket: that connects.
        file: with the public key of who listens.
        own: with this end's secret key, by which who listens knows it; None: that of ``file`` where it has one, as on
            the host of who listens, or else a new pair, which nobody knows.
    """
    server, known = zmq.auth.load_certificate(file)
    socket.curve_serverkey = server
    if own is not None:
        public, secret = zmq.auth.load_certificate(own)
    else:
        public, secret = (server, known) if known else zmq.curve_keypair()
    if secret is None:
        raise ValueError(f"{own} has no secret key")
    socket.curve_publickey, socket.curve_secretkey = public, secret
