"""A small HTTP server on this host, that gives what it is told to."""

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes, dict[str, str]]  # status, body, headers


@contextmanager
def http_server(
    answer: Callable[[BaseHTTPRequestHandler], Answer],
    ranges: bool = True,
    tls: ssl.SSLContext | None = None,
    version: str = "HTTP/1.0",
) -> Iterator[str]:
    """Answer each GET; gives the address. Parts of a body are given where they are asked for, unless not ``ranges``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = version

        def handle(self) -> None:
            with suppress(ConnectionError):  # whoever asked has gone
                super().handle()

        def do_GET(self) -> None:
            status, body, headers = answer(self)
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if ranges else None
            if asked is not None and status == 200:
                first, last = int(asked[1]), int(asked[2] or len(body) - 1)
                headers = headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}", "Accept-Ranges": "bytes"}
                status, body = 206, body[first : last + 1]
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # whoever asked has gone
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Playlist:
    """HLS of MPEG-TS segments, of which one more is listed each time one has gone by.

    Args:
        segments: one after the other.
        segment_s: each of them lasts.
        ends: the playlist has all of them, and its end.
    """

    def __init__(self, segments: list[bytes], segment_s: float, ends: bool) -> None:
        self._segments, self._segment_s, self._ends = segments, segment_s, ends
        self._began_s = time.monotonic()

    def __call__(self, request: BaseHTTPRequestHandler) -> Answer:
        if request.path.endswith(".ts"):
            return 200, self._segments[int(request.path[1:-3])], {}
        listed = 3 + int((time.monotonic() - self._began_s) / self._segment_s)
        listed = len(self._segments) if self._ends else min(listed, len(self._segments))
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(self._segment_s + 0.5)}"]
        lines += ["#EXT-X-MEDIA-SEQUENCE:0"]
        for index in range(listed):
            lines += [f"#EXTINF:{self._segment_s:.3f},", f"{index}.ts"]
        lines += ["#EXT-X-ENDLIST"] if self._ends else []
        return 200, "\n".join(lines).encode() + b"\n", {"Content-Type": "application/vnd.apple.mpegurl"}
