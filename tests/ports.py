"""Ports of this host for tests."""

import socket


def free_port() -> int:
    """Return the number of a TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
