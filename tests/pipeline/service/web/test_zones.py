"""Zones drawn on the page, in the configuration file."""

from pathlib import Path

import pytest

from pipeline.service.control import Control
from pipeline.service.control_socket import ControlSocket
from pipeline.service.reloading import Reloaded
from pipeline.settings.load import load
from tests.pipeline.service.web.made_site import client_of, made_site

CONFIG = """# two cameras
[[streams]]
name = "door"  # the front one
source = "rtsp://ada:${PASSWORD}@10.0.0.7/live"

[[streams.zones]]
name = "old"
points = [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]

[[streams]]
name = "yard"
source = "1"
[[streams.lines]]
name = "gate"
points = [[0.0, 0.5], [1.0, 0.5]]

[publish]
address = "tcp://127.0.0.1:5599"
"""
TRIANGLE = {"name": "path", "points": [[0.5, 0.25], [1.0, 1 / 3], [0, 1]], "labels": None, "dwell_s": 5}
LINE = {"name": "way", "points": [[0, 0], [1, 1]], "labels": ["person"]}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASSWORD", "secret")
    file = tmp_path / "run.toml"
    file.write_text(CONFIG)
    file.chmod(0o600)
    return file


def test_zones_are_written_all_other_text_stays_and_the_run_is_told(config: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def reload() -> Reloaded:
        told.append(config.read_text())
        return Reloaded(changed=("door",))

    run = ControlSocket(tmp_path / "control", Control(), reload)
    with run, client_of(made_site(tmp_path, config=config, control=tmp_path / "control")) as client:
        written = client.put("/api/streams/door/zones", json={"zones": [TRIANGLE], "lines": [LINE]})
        assert written.status_code == 200 and written.json()["taken_over"] is True
        assert client.get("/api/streams/door/zones").json()["zones"][0]["points"] == [
            [0.5, 0.25],
            [1.0, 0.3333],
            [0, 1],
        ]
        shown = {stream["name"]: stream for stream in client.get("/api/streams").json()}
    assert [zone["name"] for zone in shown["door"]["zones"]] == ["path"]
    assert [line["name"] for line in shown["yard"]["lines"]] == ["gate"]
    text = config.read_text()
    assert told == [text]
    kept = ("# two cameras", "# the front one", "${PASSWORD}", 'address = "tcp://127.0.0.1:5599"')
    assert all(part in text for part in kept) and "secret" not in text and "old" not in text
    door, yard = load(config).streams
    assert (door.zones[0].dwell_s, door.lines[0].labels, yard.lines[0].name) == (5, ("person",), "gate")


def test_the_file_before_is_kept_ten_times_and_all_have_its_rights(config: Path, tmp_path: Path) -> None:
    with client_of(made_site(tmp_path, config=config)) as client:
        assert client.put("/api/streams/door/zones", json={}).json() == {"zones": [], "lines": [], "taken_over": False}
        first = next(tmp_path.glob("run.toml.*.bak"))
        assert first.read_text() == CONFIG
        for _ in range(11):
            client.put("/api/streams/door/zones", json={"zones": [TRIANGLE]}).raise_for_status()
    copies = [file for file in tmp_path.iterdir() if file.name.endswith(".bak")]
    assert len(copies) == 10 and first not in copies
    assert {file.stat().st_mode & 0o777 for file in (*copies, config)} == {0o600}


@pytest.mark.parametrize(
    ("stream", "wanted", "status", "sentence"),
    [
        ("attic", {}, 404, "has no stream 'attic'"),
        ("door", {"zones": [{"name": "a", "points": [[0, 0], [1, 1]]}]}, 400, "but must be an array of 3 to 64 points"),
        ("door", {"zones": [TRIANGLE, TRIANGLE]}, 400, "must differ from the names of the stream's other zones"),
        ("door", {"zones": [TRIANGLE | {"points": [[0, 0], [1, 1], [1, 0], [0, 1]]}]}, 400, "touch or cross"),
        (
            "door",
            {"zones": [TRIANGLE | {"points": [[0, 0], [2, 1], [1, 0]]}]},
            400,
            "must be a number at least 0 and at most 1",
        ),
        ("door", {"lines": [LINE | {"colour": "red"}]}, 400, "colour is not a key"),
        ("door", {"lines": [LINE | {"name": "${PASSWORD}"}]}, 400, "must not name a variable"),
        ("door", {"lines": "none"}, 400, "Expected `array`"),
    ],
)
def test_what_is_not_allowed_changes_nothing(
    stream: str, wanted: object, status: int, sentence: str, config: Path, tmp_path: Path
) -> None:
    with client_of(made_site(tmp_path, config=config)) as client:
        refused = client.put(f"/api/streams/{stream}/zones", json=wanted)
    assert (refused.status_code, sentence in refused.json()["error"]) == (status, True), refused.text
    assert config.read_text() == CONFIG and not list(tmp_path.glob("*.bak"))


def test_without_a_configuration_there_is_nowhere_to_write(tmp_path: Path) -> None:
    with client_of(made_site(tmp_path)) as client:
        refused = client.put("/api/streams/door/zones", json={})
    assert (refused.status_code, "no configuration file" in refused.json()["error"]) == (409, True)


def test_streams_in_one_line_keep_their_line(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('streams = [{name = "door", source = "0"}]\n')
    with client_of(made_site(tmp_path, config=config)) as client:
        client.put("/api/streams/door/zones", json={"zones": [TRIANGLE]}).raise_for_status()
    assert config.read_text().startswith('streams = [{name = "door", source = "0"')
    assert load(config).streams[0].zones[0].name == "path"
