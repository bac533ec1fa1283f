"""``trunkline run`` as people and scripts meet it."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from engines.spec import Model
from pipeline.frames.counters import FrameCounts
from pipeline.inference import stage
from pipeline.runtime.summary import Summary
from pipeline.settings.defaults import config_of
from pipeline.settings.schema import GALLERY, Config
from tests.pipeline.made_runs import PATIENCE_S, write_model
from tools.main import app
from tools.run import _table

pytestmark = pytest.mark.usefixtures("handlers")

FRAMES = 20  # of the clip
runner = CliRunner()


def trunkline(*arguments: str | Path) -> Result:
    return runner.invoke(app, ["--log-level", "warning", "run", *map(str, arguments)])


def test_a_file_runs_to_its_end_and_the_books_are_printed(write_config: Callable[..., Path]) -> None:
    result = trunkline(write_config())
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
        (('directory = "."', "min_free_gb = 1e9"), "record.min_free_gb is 1e+09, and with one video "),
    ],
    ids=["a folder that cannot be written", "a full disk"],
)
def test_a_recording_that_cannot_be_made_is_refused_before_anything_runs(
    write_config: Callable[..., Path], links: str, lines: tuple[str, ...], sentence: str
) -> None:
    path = write_config("[record]", *lines)
    path.write_text(f'links = "{links}"\n{path.read_text()}')
    result = trunkline(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {sentence}")
    assert result.stderr.count("\n") == 1


def test_the_gallery_that_is_there_is_taken_and_told(
    write_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / GALLERY).write_bytes(b"")
    result = trunkline(write_config())
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == f"names from {GALLERY}"


def test_books_for_scripts(write_config: Callable[..., Path], tmp_path: Path) -> None:
    result = trunkline(write_config(), "--json", "--summary", tmp_path / "summary.json")
    assert result.exit_code == 0, result.output
    books = json.loads(result.stdout)
    end = {"read": "all", "cause": f"end of the file after {FRAMES} frames"}
    assert books["streams"] == {"door": {"captured": FRAMES, "published": FRAMES, "dropped": {}} | end}
    assert json.loads((tmp_path / "summary.json").read_text()) == books


@pytest.mark.parametrize("looped", [True, False])
def test_seconds_end_a_run_that_has_not_ended_by_then(write_config: Callable[..., Path], looped: bool) -> None:
    stream = ("loop = true", 'pace = "realtime"') if looped else ()
    seconds = "1.0" if looped else "600"
    began = time.monotonic()
    result = trunkline(write_config(stream=stream), "--json", "--seconds", seconds)
    assert result.exit_code == 0, result.output
    assert time.monotonic() - began < PATIENCE_S
    door = json.loads(result.stdout)["streams"]["door"]
    assert door["captured"] == door["published"] + sum(door["dropped"].values())
    assert door["captured"] >= (1 if looped else FRAMES)
    assert not any(
        isinstance(thread, threading.Timer) and not thread.finished.is_set() for thread in threading.enumerate()
    )


def test_drops_are_printed_with_their_cause(
    write_config: Callable[..., Path], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(batches: Iterable[Any], engine: Any) -> Iterator[Any]:
        for batch in start(batches, engine):
            time.sleep(0.05)
            yield batch

    start = stage.start
    monkeypatch.setattr(stage, "start", slow)
    config = write_config(stream=("live = true", "reconnect_min_s = 0.001", "reconnect_max_s = 0.001"))
    result = trunkline(config, "--seconds", "0.5")
    assert result.exit_code == 0, result.output
    assert " stale" in result.stdout.splitlines()[0]


def test_beyond_this_host_only_when_it_is_meant(write_config: Callable[..., Path]) -> None:
    config = write_config("[publish]", 'address = "tcp://*:0"')
    refused = trunkline(config)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: publish.address is 'tcp://*:0', which other hosts can reach")
    assert trunkline(config, "--insecure").exit_code == 0


def test_metrics_are_served_only_when_they_are_asked_for(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("tools.run.METRICS", address)
        assert trunkline(write_config()).exit_code == 0
        refused = trunkline(write_config(), "--metrics")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: metrics.address is {address!r}, which cannot be used: ")
    assert trunkline(write_config(), "--metrics").exit_code == 0
    assert trunkline(write_config("[metrics]", 'address = "127.0.0.1:0"'), "--metrics").exit_code == 0


def test_metrics_are_none_where_streams_are_forwarded(write_config: Callable[..., Path]) -> None:
    refused = trunkline(write_config(stream=('forward = "tcp://127.0.0.1:9"',)), "--metrics")
    assert refused.exit_code == 2
    assert refused.stderr == "error: --metrics is there, but must be left out where streams are forwarded\n"


def test_a_password_is_not_in_the_logs(write_config: Callable[..., Path]) -> None:
    door = 'source = "rtsp://ada:hunter2@127.0.0.1:9/live?token=0ddba11"'
    config = write_config("[[streams]]", 'name = "yard"', door, "reconnect_min_s = 0.01")
    result = runner.invoke(app, ["--log-level", "debug", "run", str(config), "--seconds", "0.7"])
    assert result.exit_code == 0, result.output
    assert "stream down" in result.stderr
    assert "Connection refused: nobody listens at " in result.stderr
    assert "hunter2" not in result.output
    assert "0ddba11" not in result.output


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
            "fps, min_rate_hz, crops, object_score, face_score, size, preprocess, nms",
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
            ["[[streams]]", 'name = "yard"', 'source = "rtsp://ada:${NO_SUCH_PASSWORD}@cam/1"'],
            "streams[1].source needs the environment variable NO_SUCH_PASSWORD, which is not set",
            id="an unset variable",
        ),
    ],
)
def test_a_configuration_that_is_wrong(write_config: Callable[..., Path], lines: list[str], sentence: str) -> None:
    config = write_config(*lines)
    assert refusal(trunkline(config)) == f"{config}: {sentence}"


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    assert (
        refusal(trunkline(tmp_path / "none.toml")) == f"{tmp_path}/none.toml: cannot be read: No such file or directory"
    )


def test_a_configuration_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("[[streams]\n")
    assert refusal(trunkline(tmp_path / "site.toml")).startswith(f"{tmp_path}/site.toml: is not valid TOML: ")


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        pytest.param(lambda path: None, "does not exist", id="missing"),
    ],
)
def test_a_source_that_cannot_be_played(
    write_config: Callable[..., Path], tmp_path: Path, make: Callable[[Path], object], cause: str
) -> None:
    source = tmp_path / "clip.mp4"
    make(source)
    assert refusal(trunkline(write_config(source=source))) == f"stream 'door': source '{source}' {cause}"


def drop_spec(folder: Path) -> None:
    (folder / "spec.json").unlink()


def change_outputs(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    spec["frame"]["outputs"]["depth"] = [1]
    (folder / "spec.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(drop_spec, "cannot read spec.json: No such file or directory", id="no spec"),
        pytest.param(
            change_outputs, "frame.onnx does not match spec.json: for 2 pictures output 'depth'", id="other outputs"
        ),
    ],
)
def test_a_model_folder_that_is_damaged(
    write_config: Callable[..., Path], tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    folder = write_model(tmp_path / "model").path
    damage(folder)
    assert refusal(trunkline(write_config(model=folder))).startswith(f"model {folder}: {sentence}")


def test_a_summary_that_cannot_be_written_is_refused_but_the_books_are_not_lost(
    write_config: Callable[..., Path], tmp_path: Path
) -> None:
    result = trunkline(write_config(), "--summary", tmp_path / "none" / "summary.json")
    assert result.exit_code == 2
    assert result.stdout.startswith(f"door: captured {FRAMES}, published {FRAMES}")
    sentence = f"error: --summary is '{tmp_path}/none/summary.json', which cannot be written: No such file or directory"
    assert result.stderr.splitlines()[-1] == sentence


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "soon"], ["--wait-for-subscriber", "-1"], []])
def test_wrong_usage(write_config: Callable[..., Path], arguments: list[str]) -> None:
    result = trunkline(*([write_config(), *arguments] if arguments else []))
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(("count", "told"), [(1, "1 frame"), (3, "3 frames")])
def test_what_a_recording_left_out_is_told(count: int, told: str) -> None:
    finished = Summary(1.0, {"door": FrameCounts(10, 10, {})}, backend="onnxruntime", left_out={"door": count})
    assert f"door: recording left out {told}" in _table(finished).splitlines()


def test_a_recording_that_left_nothing_out_is_not_mentioned() -> None:
    finished = Summary(1.0, {"door": FrameCounts(10, 10, {})}, backend="onnxruntime", left_out={})
    assert "recording" not in _table(finished)
    assert finished.to_json()["recording"] == {"left_out": {}}
