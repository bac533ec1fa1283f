"""What a running default Trunkline exposes: loopback alone, no core dumps, and no secret wherever one can stand."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines.errors import SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.opening import opened
from tests.pipeline.made_runs import write_model

ROOT = Path(__file__).parents[2]
SECRETS = ("hunter2-user", "hunter2-password", "hunter2-url", "hunter2-variable")
START_S = 120.0
TRUNKLINE = (sys.executable, "-c", "from tools.main import main; main()")


def allow_cores() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@pytest.fixture(scope="module")
def run(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A run of a configuration with a secret in every place one can stand, and its folder; its log is ``run.log``."""
    folder = tmp_path_factory.mktemp("run")
    clip = make_clip(folder / "clip.mp4", 40, (160, 120), 10)
    (folder / "run.toml").write_text(
        f'links = "queue"\n[model]\npath = "{write_model(folder / "model").path}"\nbackend = "onnxruntime"\n'
        '[publish]\naddress = "tcp://127.0.0.1:0"\n[metrics]\naddress = "127.0.0.1:0"\n'
        '[[sinks]]\nkind = "store"\ndirectory = "events"\nmin_free_gb = 0.0\n'
        '[[sinks]]\nkind = "jsonl"\npath = "messages.jsonl"\n'
        f'[[streams]]\nname = "film"\nsource = "{clip}"\npace = "camera"\nloop = true\n'
        '[[streams]]\nname = "door"\nsource = "rtsp://ada:hunter2-url@127.0.0.1:9/live"\ntimeout_s = 1.0\n'
        '[[streams]]\nname = "yard"\nsource = "rtsp://127.0.0.1:9/${SECRET}?token=${SECRET}"\ntimeout_s = 1.0\n'
        '[[streams]]\nname = "gate"\nsource = "http://127.0.0.1:9/live"\nlive = true\ntimeout_s = 1.0\n'
        'user = "hunter2-user"\npassword = "hunter2-password"\n'
    )
    with (folder / "run.log").open("wb") as log:
        process = subprocess.Popen(
            (*TRUNKLINE, "--log-level", "debug", "run", "run.toml", "--summary", "summary.json"),
            preexec_fn=allow_cores,
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | {"SECRET": "hunter2-variable", "PYTHONPATH": str(ROOT)},
        )
    try:
        end = time.monotonic() + START_S
        while b"gate" not in (folder / "run.log").read_bytes() or not (folder / "messages.jsonl").stat().st_size:
            assert process.poll() is None and time.monotonic() < end, (folder / "run.log").read_text()[-2000:]
            time.sleep(0.2)
        yield process.pid, folder
    finally:
        process.kill()
        process.wait()


def listening(pid: int) -> set[str]:
    """The addresses, in hexadecimal as the kernel has them, at which a process listens or takes datagrams."""
    inodes = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue
    found = set()
    for table, states in (("tcp", {"0A"}), ("tcp6", {"0A"}), ("udp", {"07"}), ("udp6", {"07"})):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state in states and f"socket:[{rest[5]}]" in inodes:
                found.add(local.partition(":")[0])
    return found


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_a_default_run_listens_on_loopback_alone(run: tuple[int, Path]) -> None:
    loopback = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
    assert listening(run[0]) == {loopback}


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs Linux")
def test_a_run_writes_no_core(run: tuple[int, Path]) -> None:
    soft, _ = resource.prlimit(run[0], resource.RLIMIT_CORE)
    assert soft == 0


@pytest.mark.integration
def test_no_secret_is_in_what_a_run_says_and_keeps(run: tuple[int, Path]) -> None:
    pid, folder = run
    command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc/self").exists() else b""
    os.kill(pid, signal.SIGINT)
    end = time.monotonic() + START_S
    while not (folder / "summary.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    said = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.toml"}
    assert {"run.log", "summary.json", "messages.jsonl", "events.sqlite"} <= said.keys(), sorted(said)
    for secret in SECRETS:
        for name, content in (said | {"the process list": command}).items():
            assert secret.encode() not in content, f"{secret} is in {name}"


@pytest.mark.parametrize("within", ["cache:", "async:", "crypto+", "concat:", "subfile,,start,0,end,0,,:"])
def test_no_protocol_within_another_leads_to_a_file(
    make_clip: Callable[..., Path], tmp_path: Path, within: str
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 4, (64, 48), 10)
    with opened(StreamSettings(name="door", source=str(clip)), False) as (container, *_):
        assert container.format.name.startswith("mov")
    settings = StreamSettings(name="door", source=f"{within}file://{clip}", timeout_s=2.0)
    with pytest.raises(SourceError), opened(settings, False):
        pass


def test_opening_openvino_tells_nobody_outside(tmp_path: Path) -> None:
    """OpenVINO's package sends an event to a web analytics service whenever it is imported, unless it cannot."""
    code = "import sys, engines.backends.builtin as b; b.openvino.status(); import engines.backends.ov; "
    code += "print([name for name, module in sys.modules.items() if module])"
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        (sys.executable, "-c", code),
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "openvino_telemetry" not in done.stdout
    assert list(tmp_path.iterdir()) == [], "it has written a number for this user"
