"""Whole runs for tests: a made model that sees one person in every picture, and a subscriber that reads all of it."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import av
import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from engines.engine import Engine, Running
from engines.spec import EntrySpec, Model, ModelSpec, NetworkSettings, load_model, sha256_of
from pipeline.runtime.summary import Summary
from pipeline.service import run as running
from pipeline.settings.schema import Config
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage, Message

PATIENCE_S = 120.0  # no test waits this long unless it fails; in a crowd, some wait long
LAST_MESSAGES_S = 0.5  # in which what was sent at the end of a run that failed has arrived
HEIGHT, WIDTH = 48, 64  # of the made model's frame entry
EMBEDDING = np.eye(1, 128, dtype=np.float32)  # of every face

# xyxy in the network's input: where the person is while the picture is dark, and while it is bright
DARK_BOX, BRIGHT_BOX = (4.0, 4.0, 20.0, 44.0), (40.0, 4.0, 56.0, 44.0)
FACE_BOX = (8.0, 6.0, 16.0, 14.0)
LANDMARKS = ((10.0, 9.0), (14.0, 9.0), (12.0, 11.0), (10.5, 12.5), (13.5, 12.5))
FRAME_OUTPUTS = {
    "object_boxes": (1, 4),
    "object_scores": (1,),
    "object_labels": (1,),
    "face_boxes": (1, 4),
    "face_scores": (1,),
    "face_landmarks": (1, 5, 2),
    "scene": (2,),
}
FACE_OUTPUTS = {"embedding": (128,), "quality": ()}


def write_model(folder: Path) -> Model:
    """A model folder: one person with a face in each picture, at the left while it is dark, else at the right."""
    folder.mkdir(parents=True, exist_ok=True)
    frame_outputs = {
        "object_boxes": (DARK_BOX, BRIGHT_BOX),
        "object_scores": (0.9,),
        "object_labels": (0.0,),
        "face_boxes": (FACE_BOX,),
        "face_scores": (0.9,),
        "face_landmarks": (np.ravel(LANDMARKS),),
        "scene": ((0.9, 0.1), (0.2, 0.8)),
    }
    face_outputs = {"embedding": (EMBEDDING[0],), "quality": (0.8,)}
    _write_onnx(folder / "frame.onnx", (HEIGHT, WIDTH), FRAME_OUTPUTS, frame_outputs)
    _write_onnx(folder / "face.onnx", (112, 112), FACE_OUTPUTS, face_outputs)
    spec = ModelSpec(
        format=1,
        name="made",
        frame=EntrySpec("frame.onnx", sha256_of(folder / "frame.onnx"), HEIGHT, WIDTH, FRAME_OUTPUTS),
        face=EntrySpec("face.onnx", sha256_of(folder / "face.onnx"), 112, 112, FACE_OUTPUTS),
        objects=("person", "dog"),
        scenes=("street", "room"),
        network=NetworkSettings(),
    )
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    return load_model(folder)


def _write_onnx(
    path: Path, size: tuple[int, int], outputs: dict[str, tuple[int, ...]], values: dict[str, tuple[Any, ...]]
) -> None:
    """A graph whose outputs have one value in dark pictures and the second, if there is one, in bright ones."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["level"]),
        helper.make_node("Greater", ["level", "grey"], ["bright"]),
    ]
    constants = [
        helper.make_tensor("grey", TensorProto.FLOAT, [], [128.0]),
        helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]),
    ]
    for name, shape in outputs.items():
        dark, bright = (np.ravel(values[name][row]).tolist() for row in (0, -1))
        constants += [
            helper.make_tensor(f"{name}_dark", TensorProto.FLOAT, [1, len(dark)], dark),
            helper.make_tensor(f"{name}_bright", TensorProto.FLOAT, [1, len(bright)], bright),
            helper.make_tensor(f"{name}_shape", TensorProto.INT64, [1 + len(shape)], [-1, *shape]),
        ]
        nodes += [
            helper.make_node("Where", ["bright", f"{name}_bright", f"{name}_dark"], [f"{name}_row"]),
            helper.make_node("Reshape", [f"{name}_row", f"{name}_shape"], [name]),
        ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", *size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]) for name, shape in outputs.items()],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


class SlowEngine:
    """An engine that takes its time, and calls ``before`` with the number of each batch before it runs."""

    def __init__(self, engine: Engine, seconds: float, before: Callable[[int], object] = lambda number: None) -> None:
        self.spec, self.backend = engine.spec, engine.backend
        self.precision, self.device, self.depth = engine.precision, engine.device, 1
        self._engine = engine
        self._seconds = seconds
        self._before = before
        self._batches = 0

    def start(self, batch: npt.NDArray[np.uint8]) -> Running:
        self._batches += 1
        self._before(self._batches)
        time.sleep(self._seconds)
        return self._engine.start(batch)

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        return self.start(batch).outputs()

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def dark_then_bright(frames: int, size: tuple[int, int]) -> Callable[[int], npt.NDArray[np.uint8]]:
    """The pictures of a clip of ``size`` (width, height), dark in its first half and bright in its second."""
    width, height = size
    return lambda index: np.full((height, width, 3), 40 if index < frames // 2 else 220, np.uint8)


def make_config(model: Model, streams: dict[str, str | Path | dict[str, object]], /, **sections: object) -> Config:
    """Streams as ``name=source`` or ``name={...}``; messages go to a free port of this host."""
    rows = []
    for name, settings in streams.items():
        values = settings if isinstance(settings, dict) else {"source": settings}
        rows.append({"name": name, **values, "source": str(values["source"])})
    values = {
        "streams": rows,
        "model": {"path": str(model.path), "backend": "onnxruntime"},
        "publish": {"address": "tcp://127.0.0.1:0", "high_water_mark": 100_000},
        **sections,
    }
    return msgspec.convert(values, Config)


class Run:
    """A run in a thread of its own, with these arguments besides, and every message it sends."""

    def __init__(self, config: Config, run: Callable[..., Summary] | None = None, **arguments: Any) -> None:
        self.stop = threading.Event()
        self.address = ""
        self._running = partial(run or running.run, **arguments)
        self.messages: list[Message] = []
        self.received_s: list[float] = []  # when each of them came, time.monotonic()
        self.summary: Summary | None = None
        self.raised: BaseException | None = None
        self._config = config
        self._reader: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.summary = self._running(
                self._config, stop=self.stop, wait_for_subscriber_s=PATIENCE_S, started=self._subscribe
            )
        except BaseException as error:
            self.raised = error

    def _subscribe(self, address: str) -> None:
        self.address = address
        self._reader = threading.Thread(target=self._read, args=(address,), daemon=True)
        self._reader.start()

    def _read(self, address: str) -> None:
        with Subscriber(address) as subscriber:
            while not self.told_all():
                over = not self._thread.is_alive()
                message = subscriber.receive(LAST_MESSAGES_S if over else 0.02)
                if message is not None:
                    self.received_s.append(time.monotonic())
                    self.messages.append(message)
                elif over:
                    return

    def told_all(self) -> bool:
        """Whether the run is over and the last word on every stream was heard."""
        if self._thread.is_alive():
            return False
        names = [stream.name for stream in self._config.streams]
        if self.summary is not None:
            names = list(self.summary.streams)  # those that were added, too: their last words come after these
        reports = [self.health(name) for name in names]
        return all(health and health[-1].state == "ended" for health in reports)

    def wait(self, what: Callable[["Run"], bool]) -> None:
        """Until ``what`` is so."""
        end = time.monotonic() + PATIENCE_S
        while not what(self):
            assert self._thread.is_alive(), f"the run ended first: {self.raised}"
            assert time.monotonic() < end, f"not within {PATIENCE_S} s; {len(self.messages)} messages"
            time.sleep(0.005)

    def flows(self, stream: str, count: int = 5) -> None:
        """Until there are so many more frames of a stream."""
        seen = len(self.frames(stream))
        self.wait(lambda run: len(run.frames(stream)) >= seen + count)

    def end_now(self) -> Summary:
        """The summary of the run, which is stopped."""
        self.stop.set()
        return self.end()

    def end(self) -> Summary:
        """The summary of the run, once it has ended by itself, with all its messages read."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self._reader is not None:
            self._reader.join(PATIENCE_S)
            assert not self._reader.is_alive()
        if self.raised is not None:
            raise self.raised
        assert self.summary is not None
        return self.summary

    def frames(self, stream: str) -> list[FrameMessage]:
        return [one for one in list(self.messages) if isinstance(one, FrameMessage) and one.stream == stream]

    def events(self, stream: str) -> list[EventMessage]:
        return [one for one in list(self.messages) if isinstance(one, EventMessage) and one.stream == stream]

    def health(self, stream: str) -> list[HealthMessage]:
        return [one for one in list(self.messages) if isinstance(one, HealthMessage) and one.stream == stream]


def check_ends(run: Run, *causes: str) -> Counter[tuple[str, str]]:
    """Whatever was announced has ended, once; the (kind, cause) of the ends, the causes being among ``causes``."""
    began: Counter[tuple[str, str, int | None]] = Counter()
    ends: Counter[tuple[str, str]] = Counter()
    for event in [one for one in run.messages if isinstance(one, EventMessage)]:
        thing = (event.stream, event.kind, event.track)
        if event.event == "new":
            assert not began[thing], f"{thing} began twice"
            began[thing] += 1
        elif event.event == "ended":
            if event.cause == "crash" and not began[thing]:
                continue  # what was being told when its teller was killed may end though it did not begin, or twice
            assert began[thing], f"{thing} ended and had not begun"
            began[thing] -= 1
            assert event.cause is not None and event.cause in causes
            ends[event.kind, event.cause] += 1
    assert not +began, "something never ended"
    return ends


def check_books(run: Run, summary: Summary, kills: int = 0) -> None:
    """Every frame of every stream is accounted for, in the summary and in the messages alike.

    Who publishes was killed ``kills`` times: what it had counted and was on its way to subscribers then is missing,
    and what was sent and not counted yet is in the books as a crash. Subscribers can tell by the numbers.
    """
    for name, account in summary.streams.items():
        frames = run.frames(name)
        assert account.captured == account.published + sum(account.dropped.values()), (name, account)
        # The number of each message, as subscribers reckon it: no message is missing and none came twice.
        numbers = [-1, *(frame.seq - sum(frame.dropped.values()) for frame in frames)]
        assert sum(later - earlier != 1 for earlier, later in itertools.pairwise(numbers)) <= kills, (name, numbers)
        assert numbers[-1] + 1 == account.published, (name, account)
        last = run.health(name)[-1]
        assert last.state == "ended"
        assert (last.captured, last.published, last.dropped) == (account.captured, account.published, account.dropped)
        own = [message for message in run.messages if message.stream == name]
        assert own[-1] is last


def content(run: Run) -> list[bytes]:
    """Every message but for times and addresses, stream by stream."""
    kept = []
    for message in sorted(run.messages, key=lambda message: message.stream):
        fields = msgspec.to_builtins(message)
        for clock in ("captured_at", "timings_ms", "at", "first_seen", "last_seen"):
            fields.pop(clock, None)
        kept.append(msgspec.json.encode(fields))
    return kept


def videos_of(folder: Path, stream: str) -> list[Path]:
    """The files of a stream's recording, the oldest first."""
    return sorted(folder.glob(f"*Z_{stream}.mp4"))


def video_of(folder: Path, stream: str) -> Path:
    """The one file of a stream's recording."""
    (video,) = videos_of(folder, stream)
    return video


def is_finished(video: Path) -> bool:
    """Whether an MP4 file was closed: until then its pictures come last, in fragments (ISO/IEC 14496-12)."""
    data, boxes, start = video.read_bytes(), [], 0
    while start + 8 <= len(data):
        size = int.from_bytes(data[start : start + 4])
        boxes.append(data[start + 4 : start + 8])
        start += int.from_bytes(data[start + 8 : start + 16]) if size == 1 else max(size, 8)
    return boxes[-1:] == [b"moov"]  # the first fragment has one, too, but its pictures follow that


def frames_in(video: Path) -> int:
    """How many pictures a file has."""
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))
