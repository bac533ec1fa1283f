"""A real HTTP server in a thread that fails in every way it is told to, one request after the other."""

import socket
import socketserver
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

OK = "HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(frozen=True)
class Got:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float


def answer(status: int, *headers: str, body: str = "") -> str:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines) + "\r\n\r\n" + body


class Server:
    """Answers each request by the next of ``script``, and all after it with 204.

    A text is sent as it is; a function does what it likes with the socket.
    """

    def __init__(self, *script: str | Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self.script, self.got = deque(script), list[Got]()
        self.tries = 0
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    while server._one(self.rfile, self.connection):
                        pass
                except (OSError, ssl.SSLError):
                    pass

        class Threaded(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def get_request(self) -> tuple[socket.socket, object]:
                connection, address = super().get_request()
                return (tls.wrap_socket(connection, server_side=True) if tls else connection), address

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Threaded(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _one(self, lines: object, connection: socket.socket) -> bool:
        first = lines.readline().decode()  # type: ignore[attr-defined]
        if not first:
            return False
        headers = {}
        while (line := lines.readline().decode().strip()) != "":  # type: ignore[attr-defined]
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = lines.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]
        self.tries += 1
        step = self.script.popleft() if self.script else OK
        if not isinstance(step, str):
            step(connection)
            return False
        if step.split(" ")[1:2] and step.split(" ")[1].startswith("2"):
            self.got.append(Got(first.split(" ")[1], headers, body, time.monotonic()))
        connection.sendall(step.encode())
        return True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang(connection: socket.socket) -> None:
    connection.settimeout(30)
    connection.recv(1)


def cut_short(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def rubbish(connection: socket.socket) -> None:
    connection.sendall(b"\x00\x01SSH-2.0-nothing\r\n\r\n")


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)
