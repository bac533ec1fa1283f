"""``trunkline run`` as people and scripts meet it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from typer.testing import CliRunner, Result

from engines.spec import Model
from pipeline.frames.counters import FrameCounts
from pipeline.inference import stage
from pipeline.runtime.summary import Summary
from pipeline.settings.defaults import config_of
from pipeline.settings.schema import GALLERY, Config, PublishSettings
from pipeline.sinks.zmq import Publisher
from pipeline.sources.pictures import SUFFIXES
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage, HealthMessage
from tests.pipeline.made_runs import PATIENCE_S, write_model
from tests.pipeline.made_sources import QUIET_S, HangingFile
from tools.main import app
from tools.run import _stop, _table

ROOT = Path(__file__).parents[2]
FRAMES = 20
ENDS_IN_S = 15.0  # of a run that is stopped, besides the longest timeout_s of its streams: see ARCHITECTURE.md
runner = CliRunner()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=FRAMES, size=(160, 120))


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signal handlers and logging as they were: a run in this process takes them over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    structlog.reset_defaults()


@pytest.fixture
def write(model: Model, clip: Path, tmp_path: Path) -> Callable[..., Path]:
    """``write(*lines, source=clip, model=the made one, stream=())``: a configuration file.

    ``lines`` come after everything else, ``stream`` are lines of the one stream.
    """

    def config(
        *lines: str, source: str | Path = clip, model: str | Path = model.path, stream: tuple[str, ...] = ()
    ) -> Path:
        rows = [
            "[[streams]]",
            'name = "door"',
            f'source = "{source}"',
            *stream,
            "[model]",
            f'path = "{model}"',
            'backend = "onnxruntime"',
            *([] if "[publish]" in lines else ["[publish]", 'address = "tcp://127.0.0.1:0"']),
            *lines,
        ]
        path = tmp_path / "site.toml"
        path.write_text("\n".join(rows) + "\n")
        return path

    return config


def trunkline(*arguments: str | Path) -> Result:
    return runner.invoke(app, ["--log-level", "warning", "run", *map(str, arguments)])


# A run that goes well.


def test_a_file_runs_to_its_end_and_the_books_are_printed(write: Callable[..., Path]) -> None:
    result = trunkline(write())
    assert result.exit_code == 0, result.output
    books, latency = result.stdout.splitlines()
    assert books == f"door: captured {FRAMES}, published {FRAMES}, dropped none"
    assert latency.startswith("latency: p50 ")
    assert latency.endswith("on onnxruntime f32")
    assert result.stderr.startswith("publishing on tcp://127.0.0.1:")
    assert result.stderr.count("\n") == 1


def test_sources_run_without_a_configuration(
    model: Model, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "front door.mp4"
    shutil.copy(clip, other)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr("tools.run.config_of", lambda sources, named: on_port(config_of(sources, named), port))
    result = trunkline(str(clip), str(other), "--model", str(model.path), "--json")
    assert result.exit_code == 0, result.output
    streams = json.loads(result.stdout)["streams"]
    assert {name: books["published"] for name, books in streams.items()} == {"clip": FRAMES, "front-door": FRAMES}
    assert "names from" not in result.stderr


def on_port(config: Config, port: int) -> Config:
    """The same on a port of its own: tests run beside each other."""
    publish = msgspec.structs.replace(config.publish, address=f"tcp://127.0.0.1:{port}")
    return msgspec.structs.replace(config, publish=publish)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(("a.toml", "b.mp4"), "a.toml: is a configuration, which must be the only argument", id="mixed"),
        pytest.param(("a.toml", "b.toml"), "a.toml: is a configuration, which must be the only argument", id="two"),
        pytest.param(("gone.mp4",), "stream 'gone': source 'gone.mp4' does not exist", id="no such file"),
        pytest.param(("a.toml", "--model", "n"), "--model is 'n', but a.toml is a configuration", id="two models"),
        pytest.param(("gone.toml",), "gone.toml: cannot be read: No such file", id="no such configuration"),
    ],
)
def test_what_cannot_be_run(arguments: tuple[str, ...], sentence: str) -> None:
    result = trunkline(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {sentence}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("links", ["queue", "zmq"])
@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (('directory = "/proc"',), "record.directory is '/proc', in which no file can be written: "),
        (('directory = "."', "min_free_gb = 1e9"), "record.min_free_gb is 1e+09, but only "),
    ],
    ids=["a folder that cannot be written", "a full disk"],
)
def test_a_recording_that_cannot_be_made_is_refused_before_anything_runs(
    write: Callable[..., Path], links: str, lines: tuple[str, ...], sentence: str
) -> None:
    path = write("[record]", *lines)
    path.write_text(f'links = "{links}"\n{path.read_text()}')
    result = trunkline(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {sentence}")
    assert result.stderr.count("\n") == 1


def test_the_gallery_that_is_there_is_taken_and_told(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / GALLERY).write_bytes(b"")
    result = trunkline(write())
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == f"names from {GALLERY}"


def test_books_for_scripts(write: Callable[..., Path], tmp_path: Path) -> None:
    result = trunkline(write(), "--json", "--summary", tmp_path / "summary.json")
    assert result.exit_code == 0, result.output
    books = json.loads(result.stdout)
    end = {"read": "all", "cause": f"end of the file after {FRAMES} frames"}
    assert books["streams"] == {"door": {"captured": FRAMES, "published": FRAMES, "dropped": {}} | end}
    assert json.loads((tmp_path / "summary.json").read_text()) == books


@pytest.mark.parametrize("looped", [True, False])
def test_seconds_end_a_run_that_has_not_ended_by_then(write: Callable[..., Path], looped: bool) -> None:
    stream = ("loop = true", 'pace = "realtime"') if looped else ()
    seconds = "1.0" if looped else "600"
    began = time.monotonic()
    result = trunkline(write(stream=stream), "--json", "--seconds", seconds)
    assert result.exit_code == 0, result.output
    assert time.monotonic() - began < PATIENCE_S
    door = json.loads(result.stdout)["streams"]["door"]
    assert door["captured"] == door["published"] + sum(door["dropped"].values())
    assert door["captured"] >= (1 if looped else FRAMES)
    assert not any(
        isinstance(thread, threading.Timer) and not thread.finished.is_set() for thread in threading.enumerate()
    )


def test_drops_are_printed_with_their_cause(
    write: Callable[..., Path], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(batches: Iterable[Any], engine: Any) -> Iterator[Any]:
        for batch in start(batches, engine):
            time.sleep(0.05)
            yield batch

    start = stage.start
    monkeypatch.setattr(stage, "start", slow)
    config = write(stream=("live = true", "reconnect_min_s = 0.001", "reconnect_max_s = 0.001"))
    result = trunkline(config, "--seconds", "0.5")
    assert result.exit_code == 0, result.output
    assert " stale" in result.stdout.splitlines()[0]


def test_nobody_subscribes(write: Callable[..., Path]) -> None:
    result = trunkline(write(), "--wait-for-subscriber", "0.05")
    assert result.exit_code == 0, result.output
    assert "nobody subscribed" in result.stderr


def test_beyond_this_host_only_when_it_is_meant(write: Callable[..., Path]) -> None:
    config = write("[publish]", 'address = "tcp://*:0"')
    refused = trunkline(config)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: publish.address is 'tcp://*:0', which other hosts can reach")
    assert trunkline(config, "--insecure").exit_code == 0


def test_metrics_are_served_only_when_they_are_asked_for(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("tools.run.METRICS", address)
        assert trunkline(write()).exit_code == 0
        refused = trunkline(write(), "--metrics")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: metrics.address is {address!r}, which cannot be used: ")
    assert trunkline(write(), "--metrics").exit_code == 0
    assert trunkline(write("[metrics]", 'address = "127.0.0.1:0"'), "--metrics").exit_code == 0


def test_metrics_are_none_where_streams_are_forwarded(write: Callable[..., Path]) -> None:
    refused = trunkline(write(stream=('forward = "tcp://127.0.0.1:9"',)), "--metrics")
    assert refused.exit_code == 2
    assert refused.stderr == "error: --metrics is there, but must be left out where streams are forwarded\n"


def test_a_password_is_not_in_the_logs(write: Callable[..., Path]) -> None:
    door = 'source = "rtsp://ada:hunter2@127.0.0.1:9/live?token=0ddba11"'
    config = write("[[streams]]", 'name = "yard"', door, "reconnect_min_s = 0.01")
    result = runner.invoke(app, ["--log-level", "debug", "run", str(config), "--seconds", "0.7"])
    assert result.exit_code == 0, result.output
    assert "stream down" in result.stderr
    assert "Connection refused: nobody listens at " in result.stderr
    assert "hunter2" not in result.output
    assert "0ddba11" not in result.output


# What is refused: one sentence, status 2, nothing on stdout.


def refusal(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        pytest.param(
            ["[inference]", "max_bach = 4"],
            "inference.max_bach is not a key of this configuration; the keys here are max_batch, max_queue_delay_ms, "
            "fps, min_rate_hz, object_score, face_score, preprocess, nms",
            id="a wrong key",
        ),
        pytest.param(
            ["[inference]", "staleness_ms = 50.0"],
            "inference.staleness_ms has a new name: it is inference.max_queue_delay_ms now, and means the same",
            id="a key with a new name",
        ),
        pytest.param(
            ["[tracking]", "unsure_share = 0.4"],
            "tracking.unsure_share has a new name: it is tracking.low_score_ratio now, and means the same",
            id="another key with a new name",
        ),
        pytest.param(
            ["[inference]", 'max_batch = "4"'],
            "inference.max_batch is '4', but must be a whole number above 0",
            id="a wrong type",
        ),
        pytest.param(
            ["[inference]", "object_score = 1.5"],
            "inference.object_score is 1.5, but must be a number at least 0 and at most 1",
            id="out of range",
        ),
        pytest.param(
            ["[[streams]]", 'name = "door"', 'source = "0"'],
            "streams[1].name is 'door', but must differ from the other names, and streams[0] has it already",
            id="a duplicate stream name",
        ),
        pytest.param(
            ["[[streams]]", 'name = "yard"', 'source = "rtsp://ada:${NO_SUCH_PASSWORD}@cam/1"'],
            "streams[1].source needs the environment variable NO_SUCH_PASSWORD, which is not set",
            id="an unset variable",
        ),
    ],
)
def test_a_configuration_that_is_wrong(write: Callable[..., Path], lines: list[str], sentence: str) -> None:
    config = write(*lines)
    assert refusal(trunkline(config)) == f"{config}: {sentence}"


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    assert (
        refusal(trunkline(tmp_path / "none.toml")) == f"{tmp_path}/none.toml: cannot be read: No such file or directory"
    )


def test_a_configuration_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("[[streams]\n")
    assert refusal(trunkline(tmp_path / "site.toml")).startswith(f"{tmp_path}/site.toml: is not valid TOML: ")


def sound_only(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        sound.writeframes(bytes(8000))


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        pytest.param(lambda path: None, "does not exist", id="missing"),
        pytest.param(lambda path: path.write_text("just text\n"), "is not a video", id="text"),
        pytest.param(lambda path: path.write_bytes(b""), "is not a video", id="empty"),
        pytest.param(Path.mkdir, f"is a folder without pictures ({', '.join(SUFFIXES)})", id="folder"),
        pytest.param(sound_only, "has no video stream", id="sound without pictures"),
    ],
)
def test_a_source_that_cannot_be_played(
    write: Callable[..., Path], tmp_path: Path, make: Callable[[Path], object], cause: str
) -> None:
    source = tmp_path / "clip.mp4"
    make(source)
    assert refusal(trunkline(write(source=source))) == f"stream 'door': source '{source}' {cause}"


def drop_spec(folder: Path) -> None:
    (folder / "spec.json").unlink()


def break_spec(folder: Path) -> None:
    (folder / "spec.json").write_text((folder / "spec.json").read_text()[:-1])


def drop_entry(folder: Path) -> None:
    (folder / "face.onnx").unlink()


def cut_entry(folder: Path) -> None:
    (folder / "frame.onnx").write_bytes((folder / "frame.onnx").read_bytes()[:100])


def change_outputs(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    spec["frame"]["outputs"]["depth"] = [1]
    (folder / "spec.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(drop_spec, "cannot read spec.json: No such file or directory", id="no spec"),
        pytest.param(break_spec, "spec.json is not valid: ", id="a spec that was cut short"),
        pytest.param(drop_entry, "face.onnx is missing", id="no face entry"),
        pytest.param(cut_entry, "frame.onnx does not match spec.json: sha256 is ", id="a file that was cut short"),
        pytest.param(
            change_outputs, "frame.onnx does not match spec.json: for 2 pictures output 'depth'", id="other outputs"
        ),
    ],
)
def test_a_model_folder_that_is_damaged(
    write: Callable[..., Path], tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    folder = write_model(tmp_path / "model").path
    damage(folder)
    assert refusal(trunkline(write(model=folder))).startswith(f"model {folder}: {sentence}")


def test_an_address_that_is_taken(write: Callable[..., Path]) -> None:
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:
        sentence = refusal(trunkline(write("[publish]", f'address = "{publisher.address}"')))
    assert sentence.startswith(
        f"publish.address is '{publisher.address}', which cannot be used: Address already in use"
    )


def test_a_gallery_that_is_none(write: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "people.sqlite"
    file.write_text("just text\n" * 100)
    assert str(file) in refusal(trunkline(write("[identity]", f'gallery = "{file}"')))


def test_a_summary_that_cannot_be_written_is_refused_but_the_books_are_not_lost(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    result = trunkline(write(), "--summary", tmp_path / "none" / "summary.json")
    assert result.exit_code == 2
    assert result.stdout.startswith(f"door: captured {FRAMES}, published {FRAMES}")
    sentence = f"error: --summary is '{tmp_path}/none/summary.json', which cannot be written: No such file or directory"
    assert result.stderr.splitlines()[-1] == sentence


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "soon"], ["--wait-for-subscriber", "-1"], []])
def test_wrong_usage(write: Callable[..., Path], arguments: list[str]) -> None:
    result = trunkline(*([write(), *arguments] if arguments else []))
    assert (result.exit_code, result.stdout) == (2, "")


# Signals.


def test_the_first_signal_lets_frames_finish_and_the_second_does_not() -> None:
    stop = threading.Event()
    _stop(stop)
    assert stop.is_set()
    with pytest.raises(KeyboardInterrupt):
        _stop(stop)


class Process:
    """``trunkline run`` in a process of its own, at work."""

    def __init__(self, config: Path, *arguments: str) -> None:
        command = [sys.executable, "-c", "from tools.main import main; main()", "run", str(config), *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TERM": ""}
        )
        assert self._process.stderr is not None
        self.address = ""
        for line in self._process.stderr:
            if line.startswith("publishing on "):
                self.address = line.split()[-1]
                break

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit status, stdout, and what came on stderr after the address."""
        try:
            out, err = self._process.communicate(timeout=PATIENCE_S)
        finally:
            self._process.kill()
        return self._process.returncode, out, err


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_cleanly_with_its_books(write: Callable[..., Path], number: int, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    config = write(stream=("loop = true", 'pace = "realtime"'))
    process = Process(config, "--json", "--summary", str(summary), "--wait-for-subscriber", "60")
    messages = []
    with Subscriber(process.address, timeout_s=PATIENCE_S) as subscriber:
        for message in subscriber:
            messages.append(message)
            if isinstance(message, FrameMessage) and message.seq == 5:
                process.signal(number)
            if isinstance(message, HealthMessage) and message.state == "ended":
                break
    status, out, err = process.end()
    assert status == 0, err
    door = json.loads(out)["streams"]["door"]
    assert door["captured"] == door["published"] + sum(door["dropped"].values())
    assert json.loads(summary.read_text()) == json.loads(out)
    assert "Traceback" not in err
    last = messages[-1]
    assert isinstance(last, HealthMessage)
    assert (last.captured, last.published, last.dropped) == (door["captured"], door["published"], door["dropped"])
    assert sum(isinstance(message, FrameMessage) for message in messages) == door["published"]


@pytest.mark.integration
@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_a_signal_ends_a_run_whose_source_hangs_in_a_read(
    write: Callable[..., Path],
    make_clip: Callable[..., Path],
    tmp_path: Path,
    links: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging = HangingFile(tmp_path / "pipe", make_clip(tmp_path / "clip.mkv", frames=FRAMES, size=(160, 120)))
    (tmp_path / "sitecustomize.py").write_text("import stat\nstat.S_ISFIFO = lambda mode: False\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = write(source=hanging.path, stream=("timeout_s = 0.5", 'pace = "fast"'))
    config.write_text(f'links = "{links}"\n{config.read_text()}')
    process = Process(config, "--json", "--wait-for-subscriber", "60")
    published = 0
    with Subscriber(process.address) as subscriber:
        while (message := subscriber.receive(QUIET_S if published else PATIENCE_S)) is not None:
            published += isinstance(message, FrameMessage)
    process.signal(signal.SIGTERM)
    began = time.monotonic()
    status, out, err = process.end()
    hanging.close()
    assert time.monotonic() - began < ENDS_IN_S + 0.5
    assert (status, "Traceback" in err) == (0, False), err
    assert "sources did not end and are left behind" in err
    door = json.loads(out)["streams"]["door"]
    assert door["captured"] == door["published"] + sum(door["dropped"].values())
    assert door["published"] == published > 0
    assert json.loads(out)["stages_ms"]["total"]["p50"] > 0


@pytest.mark.integration
def test_a_second_ctrl_c_does_not_wait_for_a_source_that_hangs(write: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = Process(write(source=f"rtsp://127.0.0.1:{port}/live", stream=("timeout_s = 50.0",)))
        connection, _ = silent.accept()
        process.signal(signal.SIGINT)
        time.sleep(1.0)  # two signals at once are one
        began = time.monotonic()
        process.signal(signal.SIGINT)
        status, out, err = process.end()
        assert time.monotonic() - began < 20
        connection.close()
    assert (status, out) == (130, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(("count", "told"), [(1, "1 frame"), (3, "3 frames")])
def test_what_a_recording_left_out_is_told(count: int, told: str) -> None:
    finished = Summary(1.0, {"door": FrameCounts(10, 10, {})}, backend="onnxruntime", left_out={"door": count})
    assert f"door: recording left out {told}" in _table(finished).splitlines()


def test_a_recording_that_left_nothing_out_is_not_mentioned() -> None:
    finished = Summary(1.0, {"door": FrameCounts(10, 10, {})}, backend="onnxruntime", left_out={})
    assert "recording" not in _table(finished)
    assert finished.to_json()["recording"] == {"left_out": {}}
