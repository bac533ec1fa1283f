"""The image for processors, as far as it can be tried without a registry of images, and the compose file.

The steps of the Dockerfile are carried out in a bare environment, which then does what the container would.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings.load import load
from tests.integration.made_environments import instructions, last

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PATIENCE_S = 60.0

pytestmark = pytest.mark.integration


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
    assert all(re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+){2}", image) for image in images), images


def test_nobody_gets_more_rights_than_they_begin_with(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name


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
