"""``pip install .`` away from the checkout: all packages and the released models are there, and a run runs."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import trunkline
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage
from tests.integration.made_environments import copy_of_source, show_other_packages

ROOT = Path(__file__).parents[2]
FRAMES = 12
PATIENCE_S = 60.0

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_of_source(folder / "source")
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with Trunkline from the wheel, which sees this one's other packages."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
    show_other_packages(environment)
    command = ["--python", str(environment / "bin" / "python"), "install", "--quiet", "--no-deps", "--ignore-installed"]
    subprocess.run([sys.executable, "-m", "pip", *command, str(wheel)], check=True, timeout=100)
    return environment / "bin"


def run(*command: str | Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


def test_the_wheel_holds_every_module_and_no_training_weights(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
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


def test_the_default_install_is_the_client(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    wanted = [line for line in lines if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert [line.split()[1].partition(">=")[0] for line in wanted] == ["msgspec", "pyzmq"]
    assert f"Version: {trunkline.__version__}" in lines


def test_what_is_installed_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import engines, pipeline, tools, trunkline; print(engines.__file__, trunkline.__file__, tools.__file__)"
    done = run(installed / "python", "-c", code, folder=tmp_path)
    assert done.stdout.count(str(installed.parent)) == 3, done.stdout + done.stderr


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
        done = run(installed / "trunkline", "run", config, "--wait-for-subscriber", "60", folder=folder)
        assert done.returncode == 0, done.stderr
        messages = [subscriber.receive(PATIENCE_S) for _ in range(FRAMES)]
    assert [message.seq for message in messages if isinstance(message, FrameMessage)] == list(range(FRAMES))
    assert not list(folder.iterdir()), "a run leaves nothing where it was started"


def test_training_on_from_an_installed_model_says_where_its_weights_are(installed: Path, tmp_path: Path) -> None:
    code = "from engines.spec import load_model; load_model('n').weights"
    done = run(installed / "python", "-c", code, folder=tmp_path)
    assert "weights.pt is missing, which PyTorch and training need; installed packages have" in done.stderr
