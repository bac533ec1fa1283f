"""Installed away from the checkout, as the image is built: packages and released models are there, and runs run."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

import trunkline
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage
from tests.integration.made_environments import copy_of_source, instructions, last, packages_here, show_other_packages
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
FRAMES = 12
PATIENCE_S = 60.0

# Packages come from this environment: nothing is downloaded.
OFFLINE = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_IGNORE_INSTALLED": "1"}

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in /opt/trunkline once the first stage is built, elsewhere."""
    folder = tmp_path_factory.mktemp("image")
    source, environment = copy_of_source(folder / "source"), folder / "trunkline"
    for word, rest in instructions():
        if word != "RUN" or "/opt/trunkline" not in rest or "--requirement" in rest:  # the lock: tests/test_locks.py
            continue
        command = rest.replace("/opt/trunkline", str(environment)).replace("python ", f"{sys.executable} ", 1)
        # The setuptools that a new environment brings is too old to build the wheel.
        variables = {**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join(packages_here())}
        subprocess.run(shlex.split(command), cwd=source, env=variables, check=True, timeout=110)
        show_other_packages(environment)
    return environment


@pytest.fixture(scope="module")
def distribution(installed: Path) -> Distribution:
    (packages,) = installed.glob("lib/python*/site-packages")
    (found,) = (each for each in distributions(path=[str(packages)]) if each.name == "trunkline")
    return found


def run(*command: str | Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


def test_every_module_is_installed_and_no_training_weights(distribution: Distribution) -> None:
    names = set(map(str, distribution.files or ()))
    modules = {
        str(path.relative_to(ROOT))
        for part in ("engines", "pipeline", "tools")
        for path in (ROOT / part).rglob("*.py")
        if not path.is_relative_to(ROOT / "tools" / "peers") and not path.is_relative_to(ROOT / "pipeline" / "public")
    }
    assert modules <= names
    page = ROOT / "pipeline" / "service" / "web" / "page"
    assert {str(file.relative_to(ROOT)) for file in page.iterdir()} <= names
    assert {"trunkline/__init__.py", "trunkline/py.typed", "pipeline/py.typed", "engines/py.typed"} <= names
    for folder in (ROOT / "engines" / "zoo").glob("*/"):
        files = (file for file in folder.iterdir() if file.is_file())  # not .checked, which is this machine's
        kept = {f"engines/zoo/{folder.name}/{file.name}" for file in files if file.suffix != ".pt"}
        assert kept <= names
    assert not [name for name in names if name.endswith(".pt") or name.startswith(("tests/", "pipeline/public"))]


def test_the_default_install_is_the_client(distribution: Distribution) -> None:
    lines = str(distribution.read_text("METADATA")).splitlines()
    wanted = [line for line in lines if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert [re.split("[<>=]", line.split()[1])[0] for line in wanted] == ["msgspec", "pyzmq"]
    assert f"Version: {trunkline.__version__}" in lines


def test_what_is_installed_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import engines, pipeline, tools, trunkline; print(engines.__file__, trunkline.__file__, tools.__file__)"
    done = run(installed / "bin" / "python", "-c", code, folder=tmp_path)
    assert done.stdout.count(str(installed)) == 3, done.stdout + done.stderr


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_an_installed_trunkline_runs_from_an_empty_folder(
    links: str, installed: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    folder, clip = tmp_path / "empty", make_clip(tmp_path / "clip.mp4", frames=FRAMES)
    folder.mkdir()
    config, address = tmp_path / "run.toml", f"ipc://{tmp_path}/results"
    config.write_text(
        f'links = "{links}"\n[[streams]]\nname = "door"\nsource = "{clip}"\n'
        f'[model]\nbackend = "onnxruntime"\n[publish]\naddress = "{address}"\n'
    )
    with Subscriber(address, types=["frame"]) as subscriber:
        done = run(installed / "bin" / "trunkline", "run", config, "--wait-for-subscriber", "60", folder=folder)
        assert done.returncode == 0, done.stderr
        messages = [subscriber.receive(PATIENCE_S) for _ in range(FRAMES)]
    assert [message.seq for message in messages if isinstance(message, FrameMessage)] == list(range(FRAMES))
    assert not list(folder.iterdir()), "a run leaves nothing where it was started"


def test_training_on_from_an_installed_model_says_where_its_weights_are(installed: Path, tmp_path: Path) -> None:
    code = "from engines.spec import load_model; load_model('n').weights"
    done = run(installed / "bin" / "python", "-c", code, folder=tmp_path)
    assert "weights.pt is missing, which PyTorch and training need; installed packages have" in done.stderr


def test_what_is_installed_runs_and_is_healthy_and_writes_to_its_folder_alone(
    installed: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    port, data, config = free_port(), tmp_path / "data", tmp_path / "trunkline.toml"
    data.mkdir()
    clip = make_clip(tmp_path / "clip.mp4", frames=12)
    config.write_text(
        f'[[streams]]\nname = "door"\nsource = "{clip}"\nloop = true\npace = "realtime"\n'
        f'[model]\nbackend = "onnxruntime"\n[publish]\naddress = "ipc://{tmp_path}/results"\n'
        f'[metrics]\naddress = "127.0.0.1:{port}"\n'
    )
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"PATH": f"{installed / 'bin'}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {"XDG_CACHE_HOME": str(data / "cache"), "HOME": str(data)}
    health = [part.replace("9464", str(port)) for part in json.loads(last("HEALTHCHECK").partition("CMD ")[2])]
    command = [
        part.replace("/etc/trunkline", str(tmp_path))
        for part in json.loads(last("ENTRYPOINT")) + json.loads(last("CMD"))
    ]
    command[0] = str(installed / "bin" / command[0])
    before = files_of(installed)

    def is_healthy() -> bool:
        return not subprocess.run(health, env=variables, cwd=data, capture_output=True, timeout=60).returncode

    assert not is_healthy(), "nothing runs yet"
    with subprocess.Popen(command, env=variables, cwd=data, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        end = time.monotonic() + PATIENCE_S
        while not is_healthy():
            assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        while "publishing on" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    assert files_of(installed) == before, "the root file system may be read-only"


def files_of(folder: Path) -> set[tuple[Path, int]]:
    # Which int8 file holds is remembered beside it only where that can be written, which this test's user perhaps can.
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".checked")
    return {(path, path.stat().st_mtime_ns) for path in files}
