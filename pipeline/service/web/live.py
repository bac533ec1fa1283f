"""Streams as they are now, and what they say."""

import asyncio
from typing import Any, Final

from litestar import WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect

from engines.errors import RequestError
from pipeline.service.auth import permit
from pipeline.service.web.gate import TheReader, TheSite, as_close, needs, user_of
from pipeline.service.web.hub import Listener
from pipeline.service.web.site import Site
from pipeline.service.web.zones import places_of

LOOK_S: Final = 5.0  # how often a WebSocket's right is looked at again: sessions and tokens end, users are deleted


@get("/api/streams", opt=needs("viewer"), sync_to_thread=True)
def streams(site: TheSite, reader: TheReader) -> list[dict[str, Any]]:
    """Return all streams that the reader may see, and how they are."""
    site.settings()  # names of streams that were written since, too
    return [_stream(site, name) for name in reader.seen_of(site.hub.names())]


def _stream(site: Site, name: str) -> dict[str, Any]:
    video, codec = site.kinds.of(name)
    known = {"video": video, "codec": codec} | places_of(site.settings().get(name))
    return site.hub.report(name) | known


@websocket("/api/live", opt=needs("viewer"))
async def live(socket: WebSocket[Any, Any, Any], site: TheSite) -> None:
    """Send the messages of a run as they are published, as JSON; ``streams`` chooses, by names and commas."""
    reader = user_of(socket)
    wanted = [name for name in socket.query_params.get("streams", "").split(",") if name]
    with as_close(socket):
        for name in wanted:
            permit(reader, "viewer", name)
    listener = site.hub.join(wanted or (None if reader.role == "admin" else reader.streams))
    try:
        await socket.accept()
        await serve(socket, site, wanted, _send_all(socket, listener))
    finally:
        site.hub.leave(listener)


async def _send_all(socket: WebSocket[Any, Any, Any], listener: Listener) -> None:
    while True:
        await socket.send_text(await listener.next())


async def serve(socket: WebSocket[Any, Any, Any], site: Site, streams: list[str], sending: Any) -> None:
    """Send until it is done, the other end is gone, or its right to these streams."""
    tasks = {
        asyncio.ensure_future(sending),
        asyncio.ensure_future(_gone(socket)),
        asyncio.ensure_future(_without_right(socket, site, streams)),
    }
    _, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, RequestError):
            await socket.close(code=4000 + outcome.status, reason=str(outcome)[:100])
        elif isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | OSError | RuntimeError):
            raise outcome


async def _gone(socket: WebSocket[Any, Any, Any]) -> None:
    """Return once the other end has closed; what it says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _without_right(socket: WebSocket[Any, Any, Any], site: Site, streams: list[str]) -> None:
    """Raise RequestError once the right that the WebSocket was opened with is gone."""
    while True:
        await asyncio.sleep(LOOK_S)
        who = await asyncio.to_thread(site.who, socket)
        permit(who, "viewer")
        for name in streams:
            permit(who, "viewer", name)


ROUTES = (streams, live)
