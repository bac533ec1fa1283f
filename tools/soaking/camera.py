"""A camera of loopback: H.264 in MPEG-TS over TCP, made as it is sent, that can be broken in the ways of real ones."""

import random
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final, Self

import av
import numpy as np

from engines.arrays import Pixels

RATE: Final = 10  # pictures a second
SIZE: Final = (320, 240)
OTHER_SIZE: Final = (240, 320)
KEY_S: Final = 1.0  # between two key frames
FIRST_S: Final = 36_000.0  # time stamps begin here, so that they can jump back
SEND_S: Final = 2.0  # a reader that takes nothing for so long is disconnected


class _Chunks:
    """What a muxer writes, to be taken away picture by picture."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


class Camera:
    """Serves moving pictures at ``tcp://127.0.0.1:PORT``. Faults are its methods and attributes.

    Attributes:
        frozen: nothing is sent, and connections stay.
        rubbish: random bytes are sent in place of video.
        rate: pictures a second that are sent.
        jump_s: added to the time stamps.
        key_s: between two key frames.
    """

    def __init__(self, seed: int) -> None:
        self.frozen = self.rubbish = False
        self.rate, self.jump_s, self.key_s = float(RATE), FIRST_S, KEY_S
        self._random, self._size = random.Random(seed), SIZE
        self._lock = threading.Lock()
        self._readers: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self._port = 0
        self._over = threading.Event()
        self.start()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What a stream has as its source."""
        return f"tcp://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, at the same port as before."""
        listening = socket.create_server(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), name="camera accept", daemon=True).start()

    def kill(self) -> None:
        """Close all connections in the middle of what they carry, and listen no more."""
        if self._listening is not None:
            with suppress(OSError):  # wakes who accepts
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        self.cut()

    def cut(self) -> None:
        """Close all connections in the middle of what they carry."""
        with self._lock:
            for reader in self._readers:
                reader.close()
            self._readers.clear()

    def resize(self) -> None:
        """Send pictures of another size from now on."""
        self._size = OTHER_SIZE if self._size == SIZE else SIZE

    def close(self) -> None:
        """Stop."""
        self._over.set()
        self.kill()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                reader, _ = listening.accept()
                reader.settimeout(SEND_S)
                with self._lock:
                    self._readers.append(reader)

    def _run(self) -> None:
        number = 0
        while not self._over.is_set():
            now, chunks = self._manner, _Chunks()
            size, key_s, jump_s = now
            with av.open(chunks, "w", format="mpegts") as container:
                stream: Any = container.add_stream("libx264", rate=RATE)
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
                stream.codec_context.gop_size = max(1, round(key_s * RATE))
                while not self._over.is_set() and now == self._manner:  # no muxer takes time stamps that jump
                    frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
                    frame.pts = number
                    for packet in stream.encode(frame):
                        packet.pts = packet.dts = packet.pts + round(jump_s / packet.time_base)
                        container.mux_one(packet)
                    self._send(chunks.take())
                    number += 1
                    self._over.wait(1.0 / self.rate)

    @property
    def _manner(self) -> tuple[tuple[int, int], float, float]:
        return self._size, self.key_s, self.jump_s

    def _send(self, data: bytes) -> None:
        if self.frozen:
            return
        if self.rubbish:
            data = self._random.randbytes(len(data) or 188)
        with self._lock:
            for reader in list(self._readers):
                try:
                    reader.sendall(data)
                except OSError:
                    reader.close()
                    self._readers.remove(reader)


def picture(number: int, size: tuple[int, int]) -> Pixels:
    """Return RGB pixels (H, W, 3): a bright square that goes through a dark picture, so that something always moves."""
    width, height = size
    pixels = np.full((height, width, 3), 40, np.uint8)
    side = height // 3
    left = number * 4 % (width - side)
    pixels[height // 3 : height // 3 + side, left : left + side] = (220, 60 + number % 120, 60)
    return pixels


def wait_until(what: Any, within_s: float) -> float | None:
    """Return after how many seconds ``what()`` was true; None: not within that time."""
    began_s = time.monotonic()
    while (passed_s := time.monotonic() - began_s) < within_s:
        if what():
            return passed_s
        time.sleep(0.05)
    return None
