"""What the made server of the page tells of the machine and of users."""

import time
from typing import TYPE_CHECKING, Any

from litestar import get, post
from litestar.params import JSONBody

from pipeline.frames.clock import timestamp

if TYPE_CHECKING:
    from tests.pipeline.service.web.made_page_server import MadeRun


def system_routes(run: "MadeRun") -> list[Any]:
    """Return the routes of what a server tells of itself and of who may come in."""

    @get("/api/system")
    async def system() -> dict[str, Any]:
        counts = [12, 240, 610, 180, 40, 9, 2]
        latency = {"bounds_ms": [5.0, 10.0, 20.0, 30.0, 50.0, 100.0], "counts": counts}
        return {
            "machine": {"cpu": "made", "cores": 2, "backends": {"openvino": "2026.1", "onnxruntime": "1.24"}},
            "model": "engines/zoo/n",
            "results": "tcp://127.0.0.1:5555",
            "streams": [run.row(name) | {"latency": latency} for name in run.video],
            "happened": [{"at": timestamp(time.time_ns()), "stream": "gate", "state": "down", "cause": "made"}],
            "log": [f"{timestamp(time.time_ns())} [info     ] stream up  stream={name}" for name in run.video],
        }

    @get("/api/users")
    async def users() -> list[dict[str, Any]]:
        return [{"name": "ada", "role": "admin", "streams": [], "added_at": timestamp(run.base_ns)}]

    @post("/api/users")
    async def add_user(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        return {"name": data["name"], "password": "once-1234"}

    @get("/api/tokens")
    async def tokens() -> list[dict[str, Any]]:
        return []

    @get("/api/audit")
    async def audit() -> list[dict[str, Any]]:
        return [{"id": 1, "at": timestamp(run.base_ns), "who": "ada", "address": "127.0.0.1", "action": "login"}]

    return [system, users, add_user, tokens, audit]
