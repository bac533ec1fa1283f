"""The image for processors, as far as it can be tried without a registry of images, and the compose file.

The steps of the Dockerfile are carried out in a bare environment, which then does what the container would.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings.load import load
from tests.integration.made_environments import copy_of_source, packages_here, show_other_packages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PATIENCE_S = 60.0
# Packages come from this environment: nothing is downloaded.
OFFLINE = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_IGNORE_INSTALLED": "1"}

pytestmark = pytest.mark.integration


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, each with its arguments, in one line."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile.cpu").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def last(name: str) -> str:
    """The arguments of the last instruction of a name."""
    return [rest for word, rest in instructions() if word == name][-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in /opt/trunkline once the first stage is built, elsewhere."""
    folder = tmp_path_factory.mktemp("image")
    source, environment = copy_of_source(folder / "source"), folder / "trunkline"
    for word, rest in instructions():
        if word != "RUN" or "/opt/trunkline" not in rest:
            continue
        command = rest.replace("/opt/trunkline", str(environment)).replace("python ", f"{sys.executable} ", 1)
        # The setuptools that a new environment brings is too old to build the wheel.
        variables = {**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join(packages_here())}
        subprocess.run(shlex.split(command), cwd=source, env=variables, check=True, timeout=110)
        show_other_packages(environment)
    return environment


def test_what_the_build_takes_is_there_and_not_ignored() -> None:
    taken = [
        part for word, rest in instructions() if word == "COPY" and "--from" not in rest for part in rest.split()[:-1]
    ]
    assert {"pyproject.toml", "engines", "pipeline", "tools"} <= set(taken)
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    for part in taken:
        assert (ROOT / part).exists() and f"!{part}" in let_in, part


def test_nobody_is_root_and_two_stages_keep_the_tools_of_the_build_out() -> None:
    assert [word for word, _ in instructions()].count("FROM") == 2
    assert int(last("USER")) > 0
    assert last("COPY") == "--from=build /opt/trunkline /opt/trunkline"


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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def files_of(folder: Path) -> set[tuple[Path, int]]:
    # Which int8 file holds is remembered beside it only where that can be written, which this test's user perhaps can.
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".checked")
    return {(path, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found = yaml.safe_load((DOCS / "compose.yaml").read_text())
    assert isinstance(found, dict)
    return found


def test_compose_follows_its_schema(tmp_path: Path) -> None:
    """The compose specification's own, which check-jsonschema brings."""

    def checked(file: Path) -> "subprocess.CompletedProcess[str]":
        tool = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
        return subprocess.run(tool, capture_output=True, text=True, timeout=60)

    done = checked(DOCS / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCS / "compose.yaml").read_text().replace("read_only:", "read_onyl:", 1))
    assert checked(wrong).returncode == 1


def test_every_file_and_volume_that_compose_mounts_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source, _, rest = mount.partition(":")
            if source.startswith("."):
                assert (DOCS / source).exists(), f"{name}: {source}"
                assert rest.endswith(":ro"), f"{name}: {source}"
            else:
                assert source in compose["volumes"], f"{name}: {source}"
    build = compose["services"]["trunkline"]["build"]
    assert (DOCS / build["context"] / build["dockerfile"]).samefile(ROOT / "Dockerfile.cpu")


def test_only_this_host_reaches_what_compose_publishes(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_trunkline_runs_with_a_read_only_root_and_no_rights(compose: dict[str, Any]) -> None:
    service = compose["services"]["trunkline"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"] and "data:/data" in service["volumes"]


def test_images_of_others_have_a_version(compose: dict[str, Any]) -> None:
    images = [service["image"] for name, service in compose["services"].items() if name != "trunkline"]
    assert all(re.fullmatch(r"[a-z/-]+:v?\d[\d.]*", image) for image in images), images


def test_prometheus_asks_where_trunkline_serves(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA", "rtsp://camera.local/stream")
    config = load(DOCS / "compose" / "trunkline.toml")
    asked = yaml.safe_load((DOCS / "prometheus" / "prometheus.yml").read_text())
    (target,) = asked["scrape_configs"][0]["static_configs"][0]["targets"]
    service, _, port = target.partition(":")
    assert service in compose["services"]
    assert config.metrics.address == f"0.0.0.0:{port}" and config.metrics.insecure
    (broker,) = (sink.options.host for sink in config.sinks if sink.kind == "mqtt")
    assert broker in compose["services"]
    assert asked["rule_files"] == ["alerts.yml"] and (DOCS / "prometheus" / "alerts.yml").exists()


def test_grafana_finds_prometheus_and_the_board(compose: dict[str, Any]) -> None:
    provisioning = DOCS / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"].removeprefix("http://").partition(":")[0] in compose["services"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "trunkline.yaml").read_text())["providers"]
    mounts = [mount.split(":")[1] for mount in compose["services"]["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/trunkline.json" in mounts
