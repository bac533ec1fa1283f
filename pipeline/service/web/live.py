"""Streams as they are now, and what they say."""

from typing import Any

from litestar import WebSocket, get, websocket

from pipeline.service.auth import permit
from pipeline.service.web.gate import TheReader, TheSite, as_close, needs, user_of
from pipeline.service.web.hub import Listener
from pipeline.service.web.site import Site
from pipeline.service.web.zones import places_of


@get("/api/streams", opt=needs("viewer"), sync_to_thread=True)
def streams(site: TheSite, reader: TheReader) -> list[dict[str, Any]]:
    """Return all streams that the reader may see, and how they are."""
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


ROUTES = (streams, live)
