"""An RTSP server of loopback that sends H.264 over UDP or TCP, with all that it says in reach of whoever breaks it."""

import re
import socket
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any, Final, Self

import av

from tests.pipeline.made_clips import drawn

RATE: Final = 20  # pictures a second
KEY: Final = 10  # pictures from one key frame to the next
LONGEST: Final = 1200  # bytes of a payload, RFC 6184
CLOCK: Final = 90_000  # of RTP time stamps, a second
PAYLOAD_TYPE: Final = 96
FRAGMENT: Final = 28  # FU-A
START_CODE: Final = re.compile(b"\x00\x00\x00?\x01")

Change = Callable[[bytes], bytes]


def units_of(pictures: int, size: tuple[int, int] = (160, 120)) -> list[list[bytes]]:
    """Encode pictures; return the NAL units of each, the first of all with its parameter sets."""
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = *size, "yuv420p"
    codec.time_base, codec.framerate, codec.gop_size = Fraction(1, RATE), Fraction(RATE), KEY
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1"}
    frames = [av.VideoFrame.from_ndarray(drawn(number, size), "rgb24") for number in range(pictures)]
    for number, frame in enumerate(frames):
        frame.pts = number
    packets = [bytes(packet) for frame in (*frames, None) for packet in codec.encode(frame)]
    return [[unit for unit in START_CODE.split(packet) if unit] for packet in packets]


def payloads(unit: bytes) -> list[tuple[bytes, bool]]:
    """A NAL unit as payloads of RTP, and whether each is its last."""
    if len(unit) <= LONGEST:
        return [(unit, True)]
    head, kind, rest = unit[0] & 0xE0 | FRAGMENT, unit[0] & 0x1F, unit[1:]
    parts = [rest[place : place + LONGEST] for place in range(0, len(rest), LONGEST)]
    last = len(parts) - 1
    return [
        (bytes((head, kind | (0x80 if place == 0 else 0) | (0x40 if place == last else 0))) + part, place == last)
        for place, part in enumerate(parts)
    ]


class RtspServer:
    """Sends the same pictures again and again to each client.

    Args:
        units: of :func:`units_of`.
        packet: changes an RTP packet before it is sent; b"": it is not sent.
        sdp: changes what DESCRIBE answers.
        answer: changes each answer, its head and all.
    """

    def __init__(
        self,
        units: list[list[bytes]],
        packet: Change = lambda data: data,
        sdp: Change = lambda data: data,
        answer: Change = lambda data: data,
    ) -> None:
        self._units, self._packet, self._sdp, self._answer = units, packet, sdp, answer
        self._over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        """What a stream has as its source."""
        return f"rtsp://127.0.0.1:{self.port}/live"

    def close(self) -> None:
        """Stop."""
        self._over.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(0.1)
        with _Client(client) as served, suppress(OSError):
            while not self._over.is_set():
                if (request := served.request()) is None:
                    return
                if request:
                    self._reply(served, *request)

    def _reply(self, served: "_Client", verb: str, head: dict[str, str]) -> None:
        more, body = {}, b""
        match verb:
            case "OPTIONS":
                more["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
            case "DESCRIBE":
                body = self._sdp(sdp_of(self._units))
                more |= {"Content-Type": "application/sdp", "Content-Base": self.address + "/"}
            case "SETUP":
                more |= {"Transport": served.setup(head.get("transport", "")), "Session": "1"}
            case "PLAY":
                more["Session"] = "1"
        lines = ["RTSP/1.0 200 OK", f"CSeq: {head.get('cseq', '0')}", *(f"{key}: {more[key]}" for key in more)]
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        served.send(self._answer(text.encode() + body))
        if verb == "PLAY":
            thread = threading.Thread(target=self._play, args=(served,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _play(self, served: "_Client") -> None:
        number = packet = 0
        with suppress(OSError):
            while not self._over.is_set() and not served.gone:
                units = self._units[number % len(self._units)]
                for place, unit in enumerate(units):
                    for payload, last in payloads(unit):
                        marker = 0x80 if last and place == len(units) - 1 else 0
                        head = struct.pack(
                            ">BBHII",
                            0x80,
                            marker | PAYLOAD_TYPE,
                            packet & 0xFFFF,
                            number * CLOCK // RATE & 0xFFFFFFFF,
                            0x5452,
                        )
                        packet += 1
                        if data := self._packet(head + payload):
                            served.media(data)
                number += 1
                self._over.wait(1.0 / RATE)


class _Client:
    def __init__(self, control: socket.socket) -> None:
        self._control, self._lock, self._heard = control, threading.Lock(), b""
        self._udp: socket.socket | None = None
        self._to = ("127.0.0.1", 0)
        self.gone = False

    def request(self) -> tuple[str, dict[str, str]] | tuple[()] | None:
        """The verb and head of the next request; (): none yet; None: the client is gone."""
        if b"\r\n\r\n" not in self._heard:
            try:
                data = self._control.recv(65536)
            except TimeoutError:
                return ()
            self._heard += data
            if not data or len(self._heard) > 1_000_000:
                return None
            if b"\r\n\r\n" not in self._heard:
                return ()
        text, _, self._heard = self._heard.partition(b"\r\n\r\n")
        first, *rest = text.decode("latin-1").split("\r\n")
        head = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in rest)}
        return first.rpartition("$")[2].split(" ")[0], head

    def setup(self, transport: str) -> str:
        """Take the transport that a client asks for; return the answer's."""
        ports = re.search(r"client_port=(\d+)-(\d+)", transport)
        if ports is None:
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._to = ("127.0.0.1", int(ports[1]))
        own = self._udp.getsockname()[1]
        return f"RTP/AVP/UDP;unicast;client_port={ports[1]}-{ports[2]};server_port={own}-{own + 1}"

    def send(self, data: bytes) -> None:
        with self._lock:
            self._control.sendall(data)

    def media(self, data: bytes) -> None:
        if self._udp is not None:
            self._udp.sendto(data, self._to)
        else:
            self.send(b"$\x00" + struct.pack(">H", len(data)) + data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.gone = True
        self._control.close()
        if self._udp is not None:
            self._udp.close()


def sdp_of(units: list[list[bytes]]) -> bytes:
    """What describes them, RFC 8866 and RFC 6184."""
    sets = [unit for unit in units[0] if unit[0] & 0x1F in (7, 8)]
    sprop = ",".join(b64encode(unit).decode() for unit in sets)
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=made",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "a=control:*",
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} H264/{CLOCK}",
        f"a=fmtp:{PAYLOAD_TYPE} packetization-mode=1;sprop-parameter-sets={sprop}",
        "a=control:trackID=0",
        "",
    ]
    return "\r\n".join(lines).encode()


class StallingProxy:
    """Passes TCP on to a port of loopback, and now and then holds a chunk up: a lost segment until it is sent again.

    Args:
        port: of the server.
        hold_s: called for each chunk; for how many seconds to hold it up.
    """

    def __init__(self, port: int, hold_s: Callable[[], float]) -> None:
        self._to, self._hold_s = port, hold_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for from_, to, hold_s in ((client, server, lambda: 0.0), (server, client, self._hold_s)):
                    threading.Thread(target=_passed, args=(from_, to, hold_s), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def _passed(source: socket.socket, to: socket.socket, hold_s: Callable[[], float]) -> None:
    with source, to, suppress(OSError):
        while data := source.recv(1460):  # a segment
            time.sleep(hold_s())
            to.sendall(data)
