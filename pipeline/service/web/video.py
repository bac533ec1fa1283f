"""Live video of a stream: its packets as they came, or pictures where a browser cannot play those."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Annotated, Any, Final, Literal

import av
import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from litestar import WebSocket, get, websocket
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from engines.errors import MessageError, RequestError
from pipeline.frames.clock import timestamp
from pipeline.service.web.gate import TheSite, as_close, needs
from pipeline.service.web.site import Site
from pipeline.service.web.sockets import serve
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packet_sockets import PacketReader
from pipeline.wire.packets import PacketMessage

Kind = Literal["mse", "mjpeg", "none"]

POLL_S: Final = 0.5
MAX_WAITING: Final = 8 << 20  # bytes for a viewer that is slow; one that has more waiting begins again at the newest
BOUNDARY: Final = b"picture"
QUALITY: Final = 80
UP: Final = re.compile(r"\d+x\d+ (\w+)")  # what the health message of a stream that is up begins with
CODECS: Final = ("h264", "hevc", "av1")


def video_of(site: Site, stream: str) -> Kind:
    """Return how a stream's video can be had; ``none`` where the run sends no packets."""
    if site.places.packets is None:
        return "none"
    told = UP.match(str(site.hub.report(stream)["cause"]))
    return "mjpeg" if told and told[1] not in CODECS else "mse"  # where nobody knows, the packets tell


def packets_of(address: str, stream: str, stop: threading.Event) -> Iterator[PacketMessage]:
    """Yield the packets of a stream from a key frame on, and after a loss from the next one."""
    lost, broken = 0, True
    with closing(PacketReader(address, (stream,))) as reader:
        while not stop.is_set():
            packet = reader.read(POLL_S)
            if packet is None:
                continue
            broken, lost = broken or reader.lost.get(stream, 0) != lost, reader.lost.get(stream, 0)
            broken = broken and not packet.key
            if not broken:
                yield packet


def parts_of(packets: Iterator[PacketMessage]) -> Iterator[str | bytes]:
    """Yield what a viewer gets: a head as JSON, the init segment and fragments, until the format changes.

    Of pictures, the head alone: the viewer asks for them elsewhere.
    """
    fragmenter: Fragmenter | None = None
    for packet in packets:
        if fragmenter is None:
            if packet.codec == "mjpeg":
                yield msgspec.json.encode({"codec": "image/jpeg", "base_ns": packet.captured_ns}).decode()
                return
            fragmenter = Fragmenter(packet)
            yield msgspec.json.encode({"codec": fragmenter.mime, "base_ns": fragmenter.base_ns}).decode()
            yield fragmenter.init
        elif packet.format != fragmenter.format:
            return
        if fragment := fragmenter.fragment(packet):
            yield fragment


def pictures_of(packets: Iterator[PacketMessage], fps: float) -> Iterator[tuple[int, bytes]]:
    """Yield pictures as JPEG with the time of their capture, at most ``fps`` a second; decoded where need be."""
    shown_ns, decoder, form = 0, None, None
    for packet in packets:
        due = packet.captured_ns - shown_ns >= 1e9 / fps
        if packet.codec == "mjpeg":
            if due:
                shown_ns = packet.captured_ns
                yield packet.captured_ns, packet.data
            continue
        if decoder is None or packet.format != form:
            decoder, form = av.CodecContext.create(packet.codec, "r"), packet.format
            decoder.extradata = packet.extradata or None
        for frame in decoder.decode(_packet(packet)):
            if due and isinstance(frame, av.VideoFrame):
                shown_ns = packet.captured_ns
                yield packet.captured_ns, _jpeg(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), packet)


def _packet(packet: PacketMessage) -> "av.Packet[Any]":
    given: av.Packet[Any] = av.Packet(packet.data)
    given.pts, given.dts = packet.pts, packet.dts
    return given


def _jpeg(pixels: npt.NDArray[np.uint8], packet: PacketMessage) -> bytes:
    """A decoded picture as it is displayed."""
    wide, high = packet.aspect
    if wide != high:
        pixels = np.asarray(cv2.resize(pixels, (round(pixels.shape[1] * wide / high), pixels.shape[0])), np.uint8)
    turned = np.ascontiguousarray(np.rot90(pixels, -packet.rotation // 90))
    return cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


async def _from_thread(
    make: Callable[[threading.Event], Iterator[Any]], size: Callable[[Any], int]
) -> AsyncIterator[Any]:
    """Yield what an iterator gives that runs in a thread of its own, until it ends or the reader is too slow.

    Args:
        make: the iterator; it ends when the event is set.
        size: bytes of an item.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    waiting = 0

    def put(item: Any) -> None:
        nonlocal waiting
        waiting += 0 if item is None else size(item)
        queue.put_nowait(item)

    def run() -> None:
        try:
            for item in make(stop):
                loop.call_soon_threadsafe(put, item)
                if stop.is_set() or waiting > MAX_WAITING:
                    break
        except (MessageError, av.FFmpegError):  # the viewer begins again, at another key frame
            pass
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(put, None)

    threading.Thread(target=run, name="viewer", daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            waiting -= size(item)
            yield item
    finally:
        stop.set()


@websocket("/api/video/{name:str}", opt=needs("viewer", of_stream="name"))
async def video(socket: WebSocket[Any, Any, Any], name: FromPath[str], site: TheSite) -> None:
    """Send a stream's video as fragmented MP4, behind a JSON text with its codec and the time of its first picture."""
    with as_close(socket):
        address = _address(site, name)
    await socket.accept()
    await serve(socket, site, [name], _send_video(socket, address, name))


async def _send_video(socket: WebSocket[Any, Any, Any], address: str, name: str) -> None:
    async for part in _from_thread(lambda stop: parts_of(packets_of(address, name, stop)), len):
        if isinstance(part, str):
            await socket.send_text(part)
        else:
            await socket.send_bytes(part)


@get("/api/mjpeg/{name:str}", opt=needs("viewer", of_stream="name"), sync_to_thread=False)
def mjpeg(name: FromPath[str], site: TheSite, fps: Annotated[float, QueryParameter(gt=0.0, le=30.0)] = 5.0) -> Stream:
    """Return a stream's pictures one after the other, JPEG, each with the header X-Captured-At."""
    address = _address(site, name)

    async def body() -> AsyncIterator[bytes]:
        pictures = _from_thread(
            lambda stop: pictures_of(packets_of(address, name, stop), fps), lambda picture: len(picture[1])
        )
        async for captured_ns, jpeg in pictures:
            head = f"X-Captured-At: {timestamp(captured_ns)}\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield b"--" + BOUNDARY + b"\r\nContent-Type: image/jpeg\r\n" + head.encode() + jpeg + b"\r\n"

    return Stream(body(), media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}")


def _address(site: Site, name: str) -> str:
    if site.places.packets is None or name not in site.hub.names():
        raise RequestError(404, f"there is no video of the stream {name!r}")
    return site.places.packets


ROUTES = (video, mjpeg)
