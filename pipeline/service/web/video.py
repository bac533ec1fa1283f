"""Live video of a stream: MP4 of its packets as they came for browsers that play them, else JPEG pictures."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing, suppress
from typing import Annotated, Any, Final

from litestar import Request, WebSocket, get, websocket
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from engines.errors import MessageError, RequestError
from pipeline.frames.clock import timestamp
from pipeline.service.auth import permit
from pipeline.service.web.gate import TheSite, as_close, needs
from pipeline.service.web.live import LOOK_S, serve
from pipeline.service.web.pictures import MAKING, PictureMaker
from pipeline.service.web.site import Site
from pipeline.wire.live_video import LiveVideo
from pipeline.wire.packet_sockets import PacketReader
from pipeline.wire.packets import PacketMessage

WAIT_S: Final = 1.0  # ZeroMQ tells only of what comes after everything was read: now and then it is looked anyhow
WAITING: Final = 200  # packets that wait for a viewer, some seconds; it goes on from the next key frame then
BOUNDARY: Final = "trunkline-picture"

Wanted = Annotated[float, QueryParameter(gt=0.0, le=30.0)]


@websocket("/api/video/{name:str}", opt=needs("viewer", of_stream="name"))
async def video(socket: WebSocket[Any, Any, Any], name: FromPath[str], site: TheSite) -> None:
    """Send a stream's video: what it is and when it was captured as JSON, then fragmented MP4."""
    with as_close(socket):
        address = _address(site, name)
    await socket.accept()
    with closing(PacketReader(address, (name,), WAITING)) as reader:
        await serve(socket, site, [name], _send(socket, reader))
        await _close(socket)


async def _send(socket: WebSocket[Any, Any, Any], reader: PacketReader) -> None:
    """Send until the format of the stream changes: the page connects again then."""
    live = LiveVideo()
    async with aclosing(packets(reader)) as coming:
        async for packet in coming:
            try:
                parts = live.take(packet)
            except MessageError as error:
                raise RequestError(404, str(error)) from error
            for part in parts:
                await (socket.send_text(part) if isinstance(part, str) else socket.send_bytes(part))
            if live.over:
                return


async def _close(socket: WebSocket[Any, Any, Any]) -> None:
    if socket.connection_state != "disconnect":
        await socket.close()


async def packets(reader: PacketReader) -> AsyncGenerator[PacketMessage, None]:
    """Yield packets as they come, without a thread; closed before the reader is, which the event loop watches."""
    loop, some, watched = asyncio.get_running_loop(), asyncio.Event(), reader.fileno()
    loop.add_reader(watched, some.set)
    try:
        while True:
            some.clear()
            for packet in reader.waiting():
                yield packet
            # Not asyncio.wait_for: until Python 3.12 that may swallow a cancellation, and the viewer would never end.
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await some.wait()
    finally:
        loop.remove_reader(watched)


@get("/api/mjpeg/{name:str}", opt=needs("viewer", of_stream="name"), sync_to_thread=False)
def mjpeg(request: Request[Any, Any, Any], name: FromPath[str], site: TheSite, fps: Wanted = 5.0) -> Stream:
    """Return a stream's pictures one after the other, JPEG, for who cannot play its packets, or where it has none."""
    address = _address(site, name)
    if site.kinds.of(name)[0] == "none":
        raise _no_video(name)
    return Stream(
        _pictures(request, site, name, address, fps),
        media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
    )


async def _pictures(
    request: Request[Any, Any, Any], site: Site, name: str, address: str, fps: float
) -> AsyncGenerator[bytes, None]:
    looked_s, maker, loop = time.monotonic(), PictureMaker(fps), asyncio.get_running_loop()
    with closing(PacketReader(address, (name,), WAITING)) as reader:
        async with aclosing(packets(reader)) as coming:
            async for packet in coming:
                if (now_s := time.monotonic()) - looked_s > LOOK_S:
                    looked_s = now_s
                    permit(await asyncio.to_thread(site.who, request), "viewer", name)
                for jpeg, captured_ns in await loop.run_in_executor(MAKING, maker.take, packet, now_s):
                    yield _part(jpeg, captured_ns)


def _part(jpeg: bytes, captured_ns: int) -> bytes:
    head = (
        f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
        f"X-Captured-At: {timestamp(captured_ns)}\r\n\r\n"
    )
    return head.encode() + jpeg + b"\r\n"


def _address(site: Site, name: str) -> str:
    """Where a stream's packets are read; RequestError 404 where none are sent."""
    address = site.places.packets
    if address is None:
        raise _no_video(name)
    return address


def _no_video(name: str) -> RequestError:
    return RequestError(404, f"there is no such video of the stream {name!r}")


ROUTES = (video, mjpeg)
