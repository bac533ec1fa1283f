"""A server of the page with a made run behind it: what tests of the page in a browser, and pictures of it, look at.

``python -m tests.pipeline.service.web.made_page_server 8080`` serves it until it is interrupted.
"""

import asyncio
import io
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import cv2
import msgspec
import uvicorn
from litestar import Litestar, Request, Response, WebSocket, delete, get, patch, post, put, websocket
from litestar.datastructures import MultiDict
from litestar.exceptions import HTTPException
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from pipeline.frames.clock import timestamp
from tests.pipeline.service.web import made_page_video as footage
from tests.pipeline.service.web.made_page_system import system_routes
from tools.demo_scene import PHOTOGRAPHS

PAGE = Path(__file__).parents[4] / "pipeline" / "service" / "web" / "page"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Stricter than the server's: the page needs no more than this.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
LATE_S = 0.06  # from a picture to its message
CSRF = "made-token"


@dataclass
class MadeRun:
    """What the server tells; tests change it while it runs."""

    serving: bool = True  # False ends all sockets
    coded: bool = True  # whether pictures bear their number
    role: str | None = "admin"
    loopback: bool = True
    base_ns: int = field(default_factory=time.time_ns)
    events: list[dict[str, Any]] = field(default_factory=list)  # oldest first
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    unknown: list[dict[str, Any]] = field(default_factory=list)
    zones: dict[str, dict[str, Any]] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=lambda: {"detect": True, "record": True})  # of any stream
    down: dict[str, str] = field(default_factory=dict)
    sent: list[tuple[str, str, Any]] = field(default_factory=list)  # changes: method, path, body
    listeners: dict[asyncio.Queue[str], asyncio.AbstractEventLoop] = field(default_factory=dict)
    video: ClassVar[dict[str, str]] = {"door": "mse", "yard": "mjpeg", "hall": "none", "gate": "none"}

    @property
    def index(self) -> int:
        """The newest frame."""
        return int((time.time_ns() - self.base_ns) * footage.FPS // 10**9)

    def captured_ns(self, index: int) -> int:
        return self.base_ns + index * 10**9 // footage.FPS

    def add_event(self, stream: str = "door", **fields: Any) -> dict[str, Any]:
        """Store an event and publish it; ``body`` has fields of its message that are not as usual."""
        identifier = len(self.events) + 1
        at, other = fields.pop("at_ns", time.time_ns()), fields.pop("body", {})
        event = {
            "id": identifier, "at": timestamp(at), "stream": stream, "event": "ended", "kind": "object", "track": 1,
            "label": "person", "person": None, "place": None, "score": 0.91, "has_snapshot": True, "clip": False,
        } | fields  # fmt: skip
        points = [(second / 5, footage.moving_box(second * 5, stream)) for second in range(20)]
        body = {
            "first_seen": timestamp(at - 4 * 10**9), "last_seen": timestamp(at), "duration_s": 4.0, "best_score": 0.94,
            "box": footage.moving_box(95, stream),
            "path": [(at_s, (box[0] + box[2]) / 2, box[3]) for at_s, box in points],
            "cause": "gone" if event["event"] == "ended" else None, "name": event["place"],
            "direction": "a_to_b" if event["kind"] == "line" else None, "best_face": None,
        }  # fmt: skip
        self.events.append(event | {"body": body | other})
        self.publish({"type": "event", "schema": 1, "stream": stream, "seq": self.index, "captured_at": timestamp(at),
                      "event": event["event"], "kind": event["kind"]})  # fmt: skip
        return self.events[-1]

    def add_visit(self, stream: str, track: int, at_ns: int, name: str | None = None) -> None:
        """Store what is told of a person who has gone, and whose face was seen, and known where there is a name."""
        begin_ns = at_ns - 6 * 10**9
        body = {"first_seen": timestamp(begin_ns), "duration_s": 6.0}
        face = body | {"best_face": {"track": track + 500, "object": track}}
        seen: dict[str, Any] = {"stream": stream, "person": name, "track": track + 500, "body": face, "score": 0.78}
        self.add_event(stream, event="new", track=track, at_ns=begin_ns, body=body)
        if name is not None:
            self.add_event(**seen | {"kind": "identity", "event": "new", "label": name, "at_ns": at_ns - 2 * 10**9})
        self.add_event(**seen | {"kind": "face", "event": "ended", "label": None, "at_ns": at_ns - 10**9})
        self.add_event(stream, event="ended", track=track, at_ns=at_ns, body=body, clip=True)

    def publish(self, message: dict[str, Any]) -> None:
        """Send a message to every open page."""
        text = msgspec.json.encode(message).decode()
        for queue, loop in list(self.listeners.items()):
            loop.call_soon_threadsafe(queue.put_nowait, text)

    def frame(self, stream: str, index: int) -> dict[str, Any]:
        """The message of a frame."""
        box = footage.moving_box(index, stream)
        label = {"door": "person", "yard": "cat"}.get(stream, "person")
        name = next((one for one in self.people if one != "Karl"), None)  # Karl is in the hall
        identity = {"name": name, "score": 0.71} if name else None
        face = [box[0] + 36, box[1] + 16, box[0] + 84, box[1] + 78]
        faces = [{"track": 1, "object": 1, "score": 0.98, "box": face, "landmarks": [], "identity": identity}]
        return {
            "type": "frame", "schema": 1, "stream": stream, "seq": index, "size": footage.SIZE,
            "captured_at": timestamp(self.captured_ns(index)),
            "objects": [{"track": 1, "label": label, "score": 0.91, "box": box}],
            "faces": faces if stream == "door" else [], "scene": [{"label": "street", "score": 0.83}],
            "timings_ms": {"queue": 2.0, "infer": 6.0, "post": 0.7, "total": 8.7}, "dropped": {},
        }  # fmt: skip

    def row(self, stream: str) -> dict[str, Any]:
        """What /api/streams tells of a stream."""
        down = self.down.get(stream)
        return {
            "name": stream, "state": "up" if down is None else "down", "cause": down or "",
            "size": footage.SIZE, "fps": 25.0,
            "latency_ms": {"p50": 8.7, "p99": 14.2}, "captured": self.index, "published": self.index - 3,
            "dropped": {"stale": 3}, "video": self.video[stream],
            "codec": "avc1.42c01e" if self.video[stream] == "mse" else None,
            **self.zones.get(stream, {"zones": [], "lines": []}),
        }  # fmt: skip


def _refuse(status: int, sentence: str) -> HTTPException:
    return HTTPException(status_code=status, detail=sentence)


def _error(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, str]]:
    return Response({"error": error.detail}, status_code=error.status_code, media_type="application/json")


def app(run: MadeRun) -> Litestar:
    """The routes of the contract, over a made run."""

    async def gate(request: Request[Any, Any, Any]) -> None:
        path = request.url.path
        if not path.startswith("/api/") or path == "/api/login":
            return
        if run.role is None:
            raise _refuse(401, "log in first")
        if request.method != "GET":
            if request.headers.get("x-csrf-token") != CSRF:
                raise _refuse(403, "the header X-CSRF-Token is missing or wrong")
            if run.role != "admin" and path != "/api/logout":
                raise _refuse(403, "this needs an administrator")
            is_json = "json" in request.headers.get("content-type", "")
            body = await request.json() if is_json else None
            run.sent.append((request.method, path, body))

    @get("/")
    async def index() -> Response[bytes]:
        return Response((PAGE / "index.html").read_bytes(), media_type=TYPES[".html"])

    @get("/page/{name:str}")
    async def page(name: FromPath[str]) -> Response[bytes]:
        files = {file.name: file for file in PAGE.iterdir()}
        if name not in files:
            raise _refuse(404, f"no file {name}")
        return Response(files[name].read_bytes(), media_type=TYPES[files[name].suffix])

    @post("/api/login", status_code=200)
    async def login(data: JSONBody[dict[str, str]]) -> dict[str, Any]:
        if data["password"] != "open sesame":
            raise _refuse(401, "the name or the password is wrong")
        run.role = "admin"
        return _me(run)

    @post("/api/logout", status_code=200)
    async def logout() -> dict[str, bool]:
        run.role = None
        return {"ok": True}

    @get("/api/me")
    async def me() -> dict[str, Any]:
        return _me(run)

    routes = [index, page, login, logout, me, *_live_routes(run), *_event_routes(run), *_people_routes(run)]
    return Litestar(
        [*routes, *system_routes(run)],
        before_request=gate,
        exception_handlers={HTTPException: _error},
        response_headers={"Content-Security-Policy": CSP, "Cache-Control": "no-store"},
        openapi_config=None,
    )


def _me(run: MadeRun) -> dict[str, Any]:
    if run.role is None:
        raise _refuse(401, "log in first")
    return {"user": "ada", "role": run.role, "csrf": CSRF, "loopback": run.loopback, "streams": []}


def _live_routes(run: MadeRun) -> list[Any]:
    @get("/api/streams")
    async def streams() -> list[dict[str, Any]]:
        return [run.row(name) for name in run.video]

    @websocket("/api/live")
    async def live(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue()
        run.listeners[queue] = asyncio.get_running_loop()
        frames = "frame" in socket.query_params.get("types", "frame")
        asked = socket.query_params["streams"].split(",")
        sent = run.index
        try:
            while run.serving:
                while not queue.empty():
                    await socket.send_text(queue.get_nowait())
                ready = int((time.time_ns() - run.base_ns - LATE_S * 1e9) * footage.FPS // 10**9)
                for number in range(sent + 1, ready + 1):
                    for name in asked:
                        if frames and name not in run.down:
                            await socket.send_text(msgspec.json.encode(run.frame(name, number)).decode())
                sent = max(sent, ready)
                await asyncio.sleep(0.02)
        finally:
            del run.listeners[queue]

    @websocket("/api/video/{name:str}")
    async def video(socket: WebSocket[Any, Any, Any], name: FromPath[str]) -> None:
        await socket.accept()
        made = footage.encode(name, coded=run.coded)
        number = run.index // footage.KEY_EVERY * footage.KEY_EVERY
        await socket.send_text(msgspec.json.encode({"codec": made.mime, "base_ns": run.base_ns}).decode())
        await socket.send_bytes(made.init)
        while run.serving:
            fragment = made.fragments[number % footage.LOOP]
            await socket.send_bytes(footage.later(fragment, number // footage.LOOP * footage.LOOP * made.ticks))
            number += 1
            await asyncio.sleep(max(0.0, (run.captured_ns(number) - time.time_ns()) / 1e9))

    @get("/api/mjpeg/{name:str}")
    async def mjpeg(name: FromPath[str]) -> Stream:
        async def parts() -> AsyncIterator[bytes]:
            while run.serving:
                number = run.index
                jpeg = bytes(cv2.imencode(".jpg", footage.draw(number, name, run.coded))[1])
                head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
                yield f"{head}X-Captured-At: {timestamp(run.captured_ns(number))}\r\n\r\n".encode() + jpeg + b"\r\n"
                await asyncio.sleep(0.2)

        return Stream(parts(), media_type="multipart/x-mixed-replace; boundary=x")

    @get("/api/streams/{name:str}/zones")
    async def zones(name: FromPath[str]) -> dict[str, Any]:
        return run.zones.get(name, {"zones": [], "lines": []})

    @put("/api/streams/{name:str}/zones")
    async def put_zones(name: FromPath[str], data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        run.zones[name] = data
        return data | {"taken_over": True}

    @get("/api/streams/{name:str}")
    async def stream(name: FromPath[str]) -> dict[str, Any]:
        return run.row(name) | {"switches": run.switches}

    @put("/api/streams/{name:str}/switches")
    async def switch(name: FromPath[str], data: JSONBody[dict[str, bool]]) -> dict[str, bool]:
        run.switches |= data
        return run.switches

    return [streams, stream, switch, live, video, mjpeg, zones, put_zones]


def _event_routes(run: MadeRun) -> list[Any]:
    def fitting(query: MultiDict[str]) -> list[dict[str, Any]]:
        names = ("stream", "event", "kind", "label", "person", "place")
        fields = {name: query.getall(name) for name in names if name in query}
        least, since, until = float(query.get("min_score", "0")), query.get("since", ""), query.get("until", "~")
        return [
            each
            for each in run.events
            if all(each[name] in wanted for name, wanted in fields.items())
            and (each["score"] >= least and since <= each["at"] < until)
        ]

    def one(number: int) -> dict[str, Any]:
        for event in run.events:
            if event["id"] == number:
                return event
        raise _refuse(404, f"there is no event {number}")

    @get("/api/events")
    async def events(request: Request[Any, Any, Any]) -> dict[str, Any]:
        query = request.query_params
        found = sorted(fitting(query), key=lambda each: (each["at"], each["id"]), reverse=True)
        limit, begin = int(query.get("limit", "50")), int(query.get("cursor", "0"))
        more = begin + limit < len(found)
        return {"events": found[begin : begin + limit], "next": str(begin + limit) if more else None}

    @get("/api/events/counts")
    async def counts(request: Request[Any, Any, Any]) -> dict[str, Any]:
        query = request.query_params
        step_s = int(query["step_s"])
        found: Counter[tuple[int, str | None]] = Counter()
        for each in fitting(query):
            found[int(datetime.fromisoformat(each["at"]).timestamp()) // step_s * step_s, each["label"]] += 1
        told = [
            {"at": timestamp(at * 10**9), "label": label, "count": many} for (at, label), many in sorted(found.items())
        ]
        return {"step_s": step_s, "counts": told}

    @get("/api/events/{number:int}")
    async def event_of(number: FromPath[int]) -> dict[str, Any]:
        return one(number)

    @delete("/api/events/{number:int}", status_code=200)
    async def remove(number: FromPath[int]) -> dict[str, bool]:
        run.events.remove(one(number))
        return {"ok": True}

    @get("/api/events/{number:int}/snapshot.jpg")
    async def picture(number: FromPath[int]) -> Response[bytes]:
        return Response(footage.snapshot(one(number)), media_type="image/jpeg")

    @get("/api/events/{number:int}/clip.mp4")
    async def clip(number: FromPath[int]) -> Response[bytes]:
        event = one(number)
        began = datetime.fromisoformat(event["body"]["first_seen"]).timestamp() - 1
        headers = {"X-Captured-At": timestamp(round(began * 1e9))}
        return Response(
            footage.encode(event["stream"], footage.LOOP - footage.FPS, 125, run.coded).whole,
            media_type="video/mp4",
            headers=headers,
        )

    @get("/api/events/{number:int}/boxes")
    async def boxes(number: FromPath[int]) -> list[dict[str, Any]]:
        stream = one(number)["stream"]
        return [
            {
                "at_s": row / footage.FPS,
                "size": footage.SIZE,
                "objects": run.frame(stream, footage.LOOP - footage.FPS + row)["objects"],
                "faces": [],
            }
            for row in range(125)
        ]

    return [events, counts, event_of, remove, picture, clip, boxes]


def _people_routes(run: MadeRun) -> list[Any]:
    @get("/api/people")
    async def people() -> list[dict[str, Any]]:
        return list(run.people.values())

    @delete("/api/people/{name:str}/views/{number:int}", status_code=200)
    async def take_back(name: FromPath[str], number: FromPath[int]) -> dict[str, Any]:
        for event in run.events:
            if event["id"] == number:
                event["person"] = None
        return run.people[name]

    @get("/api/people/unknown")
    async def unknown() -> list[dict[str, Any]]:
        return run.unknown

    @post("/api/people")
    async def enrol(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        run.unknown = [group for group in run.unknown if group["event_ids"] != data["event_ids"]]
        return add_person(run, data["name"], len(data["event_ids"]))

    @patch("/api/people/{name:str}")
    async def change(name: FromPath[str], data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        person = run.people.pop(name)
        into = data.pop("merge_into", None)
        person |= data | {"name": into or data.pop("rename", name)}
        return run.people.setdefault(person["name"], person)

    @delete("/api/people/{name:str}", status_code=200)
    async def forget(name: FromPath[str]) -> dict[str, Any]:
        return run.people.pop(name)

    @get("/api/people/{name:str}/export.zip")
    async def export(name: FromPath[str]) -> Response[bytes]:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("person.json", name)
        return Response(file.getvalue(), media_type="application/zip")

    @post("/api/who", status_code=200)
    async def who(request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
        await request.form()
        return [{"box": PHOTOGRAPHS["astronaut"].face, "name": next(iter(run.people), None), "similarity": 0.66}]

    return [people, take_back, unknown, enrol, change, forget, export, who]


def add_person(run: MadeRun, name: str, views: int = 5, **fields: Any) -> dict[str, Any]:
    """Put somebody into the made gallery."""
    run.people[name] = {
        "name": name, "embeddings": views, "photos": views, "added_at": timestamp(time.time_ns()), "consent": None,
        "expires_at": None, "expired": False,
    } | fields  # fmt: skip
    return run.people[name]


def fill(run: MadeRun) -> None:
    """A morning of events, two groups of unknown faces, and zones."""
    second = 10**9
    rows: list[tuple[str, dict[str, Any]]] = [
        ("yard", {"label": "cat", "event": "ended"}),
        ("door", {"kind": "face"}),
        ("door", {"kind": "zone", "event": "enter", "place": "steps"}),
        ("hall", {"label": "person", "event": "new", "score": 0.87}),
        ("door", {"kind": "line", "event": "cross", "place": "threshold", "clip": True}),
        ("hall", {"kind": "face"}),
        ("yard", {"kind": "zone", "event": "dwell", "label": "cat", "place": "bench", "score": 0.82}),
        ("hall", {"kind": "face", "name": "Karl"}),
        ("door", {"event": "ended", "clip": True}),
    ]
    for number in range(56):
        stream, fields = rows[number % len(rows)]
        at_ns = time.time_ns() - (56 - number) * 97 * second
        if fields.get("kind") == "face":
            run.add_visit(stream, number + 1, at_ns, fields.get("name"))
        else:
            run.add_event(stream, at_ns=at_ns, **fields)
    for stream, wanted in (("door", 6), ("hall", 3)):
        faces = [event for event in run.events if event["stream"] == stream and event["kind"] == "face"]
        ids = [event["id"] for event in faces if event["person"] is None][-wanted:]
        run.unknown.append({"group": ids[0], "count": len(ids) * 3, "last_at": run.events[ids[-1] - 1]["at"],
                            "streams": [stream], "event_ids": ids, "flaw": None})  # fmt: skip
    run.unknown.append(run.unknown[-1] | {"group": 6, "count": 2, "flaw": "is 33 pixels high, but must be at least 40"})
    steps = {"name": "steps", "points": [[0.08, 0.78], [0.46, 0.78], [0.5, 0.98], [0.04, 0.98]], "labels": ["person"]}
    threshold = {"name": "threshold", "points": [[0.62, 0.98], [0.72, 0.74]]}
    add_person(run, "Karl", 7, consent="works here", expires_at="2027-03-02T23:59:59Z")
    run.zones["door"] = {"zones": [steps], "lines": [threshold]}
    run.down["gate"] = "rtsp://10.0.0.14:554/stream1 does not answer (connection refused)"


class MadePageServer:
    """Serves a made run on a port of loopback, in a thread, until it is stopped; it may be started again."""

    def __init__(self, run: MadeRun, port: int) -> None:
        self.run, self.port = run, port
        self.address = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Return once it answers."""
        config = uvicorn.Config(
            app(self.run), port=self.port, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=1
        )
        self.run.serving = True
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the made server did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """Return once nobody answers any more."""
        self.run.serving, self._server.should_exit = False, True
        self._thread.join(10)


if __name__ == "__main__":
    made = MadeRun()
    fill(made)
    footage.encode("door")
    serving = MadePageServer(made, int(sys.argv[1]))
    serving.start()
    threading.Event().wait()
