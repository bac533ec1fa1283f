"""The console command as people and scripts meet it."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog
import typer
import zmq.auth
from typer.testing import CliRunner

from engines.errors import ConfigError
from pipeline.runtime import logs
from pipeline.runtime.logs import LogSettings, configure_logging
from tools import main
from tools.main import VERBS, app

ROOT = Path(__file__).parents[2]
CONFIG = '[[streams]]\nname = "door"\nsource = "0"\n'
runner = CliRunner()


def trunkline(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from tools.main import main; main()", *arguments]


@pytest.fixture(autouse=True)
def _keep_logging() -> object:
    yield
    structlog.reset_defaults()


def test_help_shows_every_verb_without_importing_any() -> None:
    code = "import sys; from tools.main import main\ntry: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert all(verb in done.stdout for verb in VERBS)
    heavy = {"cv2", "numpy", "av", "openvino", "onnxruntime", "torch", "zmq", "structlog"}
    assert not heavy & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    result = runner.invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert f"trunkline {verb}" in result.output


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "version", lambda name: f"1.2.3 of {name}")  # the checkout may not be installed
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, "trunkline 1.2.3 of trunkline\n")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        pytest.param(["dance"], "dance", id="no such verb"),
        pytest.param(["subscrib"], "subscribe", id="a slip of the pen, with what was meant"),
        pytest.param(["check-config"], "file", id="a missing argument"),
        pytest.param(["--log-level", "loud", "doctor"], "loud", id="not one of the words"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], shown: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert shown in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "smoothing"], "trunkline report is now trunkline evaluate, whose --help names the studies"),
        (["evaluate", "--task", "tracking"], "--task tracking is now: trunkline evaluate tracking --data DIR"),
        (["evaluate", "--limit", "3", "smoothing"], "--limit has no meaning before smoothing"),
    ],
)
def test_what_has_another_name_now_is_refused_with_it(arguments: list[str], sentence: str) -> None:
    result = runner.invoke(app, arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {sentence}\n")


def with_verb(monkeypatch: pytest.MonkeyPatch, verb: object) -> None:
    monkeypatch.setattr("tools.doctor.doctor", verb)


def test_a_trunkline_error_is_one_sentence_and_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConfigError("site.toml: streams is missing")

    with_verb(monkeypatch, refuse)
    result = runner.invoke(app, ["doctor"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: site.toml: streams is missing\n"


def test_a_file_that_cannot_be_written_is_one_sentence_and_status_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "nowhere" / "out.json"
    with_verb(monkeypatch, lambda: out.write_bytes(b""))
    result = runner.invoke(app, ["doctor"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {out}: No such file or directory\n"


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with_verb(monkeypatch, interrupted)
    assert runner.invoke(app, ["doctor"]).exit_code == 130


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> None:
        raise ZeroDivisionError

    with_verb(monkeypatch, crash)
    assert isinstance(runner.invoke(app, ["doctor"]).exception, ZeroDivisionError)


def test_the_exit_status_a_verb_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        raise typer.Exit(1)

    with_verb(monkeypatch, leave)
    assert runner.invoke(app, ["doctor"]).exit_code == 1


def log_something_secret() -> None:
    source = "rtsp://ada:hunter2@cam"
    try:
        int(source[:0])
    except ValueError:
        structlog.get_logger().exception("stream.lost", stream="door")
    structlog.get_logger().debug("stream.frame")


@pytest.mark.parametrize("as_json", [False, True])
def test_log_lines_go_to_stderr_without_local_variables(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(as_json=as_json))
    log_something_secret()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "stream.lost" in shown.err
    assert "ValueError" in shown.err
    assert "stream.frame" not in shown.err
    assert "hunter2" not in shown.err
    if as_json:
        assert json.loads(shown.err)["stream"] == "door"


def test_what_was_closed_before_the_start_leads_nowhere_here_and_in_what_is_started(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code = (
        "import subprocess, sys; from tools.start import _open_standard_streams; _open_standard_streams()\n"
        f"file = open({str(kept)!r}, 'w')\n"
        "print('told', file=sys.stderr); print('told'); assert sys.stdin.read() == ''\n"
        "subprocess.run([sys.executable, '-c', 'import sys; print(); sys.stderr.flush()'], check=True)\n"
        "file.write(str(file.fileno() > 2))"
    )
    subprocess.run([sys.executable, "-c", code], preexec_fn=lambda: os.closerange(0, 3), cwd=ROOT)
    assert kept.read_text() == "True"


def test_a_name_that_the_locale_cannot_write_is_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text(CONFIG.replace('"0"', '"t\u00fcr.mp4"'), encoding="utf-8")
    code = "from tools.start import main; main()"
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, "run", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    sentence = "error: this locale, ascii, has no '\\xfc', which a name has: set PYTHONUTF8=1\n"
    assert (done.returncode, done.stderr) == (2, sentence)


def test_log_lines_are_kept_in_a_file_that_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 3000)
    configure_logging(LogSettings(file=tmp_path / "log"))
    try:
        for number in range(100):
            structlog.get_logger().info("stream up", stream=f"door-{number}")
    finally:
        configure_logging(LogSettings())
    kept = logs.last_lines(tmp_path / "log", 30)
    assert [line.partition("door-")[2] for line in kept] == [str(number) for number in range(70, 100)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 6200
    assert capsys.readouterr().err.splitlines()[-30:] == kept
    assert logs.last_lines(tmp_path / "none", 30) == []


def test_check_config_says_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(CONFIG)
    result = runner.invoke(app, ["check-config", str(path)])
    assert (result.exit_code, result.stdout) == (0, f"{path}: allowed; door -> tcp://127.0.0.1:5555\n")
    as_json = json.loads(runner.invoke(app, ["check-config", str(path), "--json"]).stdout)
    assert as_json == {"file": str(path), "streams": ["door"], "publish": "tcp://127.0.0.1:5555"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(CONFIG + "loop = 1\n", "streams[0].loop is 1, but must be true or false", id="a wrong type"),
        pytest.param(
            CONFIG + '[publish]\naddress = "tcp://*:1"\n', "publish.address is 'tcp://*:1', which", id="no keys"
        ),
        pytest.param(
            CONFIG + '[packets]\naddress = "tcp://*:1"\n', "packets.address is 'tcp://*:1', but must be", id="packets"
        ),
    ],
)
def test_check_config_refuses(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)
    result = runner.invoke(app, ["check-config", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {path}: {sentence}")
    assert result.stderr.count("\n") == 1


def test_curve_keys_are_made_once_and_the_secret_is_the_owner_s(tmp_path: Path) -> None:
    keys = tmp_path / "deep" / "keys"
    assert runner.invoke(app, ["curve-keys", str(keys)]).exit_code == 0
    secret = keys / "server.key_secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    before = secret.read_bytes()
    assert all(zmq.auth.load_certificate(secret))
    again = runner.invoke(app, ["curve-keys", str(keys)])
    assert again.exit_code == 2
    assert "keys are not replaced" in again.stderr
    assert secret.read_bytes() == before


def test_curve_keys_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = runner.invoke(app, ["curve-keys", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "which cannot be written" in result.stderr


@pytest.mark.integration
def test_ctrl_c_ends_a_waiting_verb_cleanly() -> None:
    process = subprocess.Popen(
        trunkline("--log-level", "error", "subscribe", "tcp://127.0.0.1:9"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a build in the background ignores it
    )
    end = time.monotonic() + 10
    # ZeroMQ's own threads appear once the socket is there; before that Python may still be starting.
    while len(os.listdir(f"/proc/{process.pid}/task")) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, b"", b"")
