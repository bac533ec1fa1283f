"""Live video of a stream, as its packets came; nothing serves packets yet, so there is none."""

from typing import Annotated, Any, Literal

from litestar import WebSocket, get, websocket
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from engines.errors import RequestError
from pipeline.service.web.gate import TheSite, as_close, needs

Kind = Literal["mse", "mjpeg", "none"]


def video_of(stream: str) -> tuple[Kind, str | None]:
    """Return how a stream's video can be had, and its codec as browsers name it; ``none`` where it cannot."""
    return "none", None


@websocket("/api/video/{name:str}", opt=needs("viewer", of_stream="name"))
async def video(socket: WebSocket[Any, Any, Any], name: FromPath[str], site: TheSite) -> None:
    """Send a stream's video as fragmented MP4."""
    with as_close(socket):
        raise _none(name)


@get("/api/mjpeg/{name:str}", opt=needs("viewer", of_stream="name"), sync_to_thread=False)
def mjpeg(name: FromPath[str], site: TheSite, fps: Annotated[float, QueryParameter(gt=0.0, le=30.0)] = 5.0) -> Stream:
    """Return a stream's pictures one after the other, JPEG."""
    raise _none(name)


def _none(name: str) -> RequestError:
    return RequestError(404, f"there is no video of the stream {name!r}")


ROUTES = (video, mjpeg)
