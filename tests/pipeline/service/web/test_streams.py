"""Streams added, changed, removed and switched through the API, by a client, on a run of which the streams are made."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from typer.testing import CliRunner

from engines.errors import ConfigError, MessageError, RequestError
from pipeline.service.control import Control
from pipeline.service.control_socket import ControlSocket, LookOnly, ask
from pipeline.service.reloading import reload
from pipeline.service.web.app import make_app
from pipeline.settings.load import load
from pipeline.settings.schema import InferenceSettings
from pipeline.wire.rest import ReloadReport, RestClient, SettingsChange, StreamChange, StreamReport
from tests.pipeline.service.test_reloading import MadeRun
from tests.pipeline.service.web.made_site import bearer, event, made_site, stored
from tools.main import app as commands

CONFIG = """# two cameras
[[streams]]
name = "door"  # the front one
source = "rtsp://ada:${PASSWORD}@10.0.0.7/live"
timeout_s = 4.0

[[streams]]
name = "yard"
source = "rtsp://10.0.0.8/live"
"""
pytestmark = pytest.mark.integration


class Served:
    """A made run of a configuration or of none, its control, and the page's server at a port of its own."""

    def __init__(self, folder: Path, config: Path | None, **site: Any) -> None:
        streams = load(config).streams if config is not None else ()
        self.run, self.control = MadeRun(*streams), Control()
        self.path = folder / "control"
        read = None if config is None else (lambda: reload(lambda: load(config), load(config), self.control))
        self.socket = ControlSocket(self.path, self.control, read)
        self.site = made_site(folder, config=config, control=self.path, **site)  # type: ignore[arg-type]
        self._serving = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._serving.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(make_app(self.site), log_config=None, access_log=False))

    @contextmanager
    def on(self) -> Iterator["Served"]:
        thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._serving]}, daemon=True)
        with self.socket, self.control.of(self.run):
            thread.start()
            while not self._server.started:
                time.sleep(0.01)
            yield self
            self._server.should_exit = True
            thread.join(10)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASSWORD", "secret")
    file = tmp_path / "run.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def served(tmp_path: Path, config: Path) -> Iterator[Served]:
    with Served(tmp_path, config).on() as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[RestClient]:
    with RestClient(served.url) as client:
        yield client


def test_a_stream_comes_changes_and_goes_in_the_run_and_in_its_file(
    served: Served, client: RestClient, config: Path
) -> None:
    zone = {"name": "mat", "points": [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]}
    assert client.add("attic", "rtsp://10.0.0.9/live", zones=[zone], loop=False) == StreamChange("attic", True, True)
    assert client.change("yard", timeout_s=2.5, transport="udp").taken_over
    assert client.change("door", timeout_s=None).taken_over
    assert client.stream("attic").settings == {
        "name": "attic",
        "source": "rtsp://10.0.0.9/live",
        "zones": msgspec.json.decode(msgspec.json.encode(served.run.there["attic"].zones)),
    }
    assert client.remove("yard").taken_over
    assert served.run.calls == [("add", "attic"), ("change", "yard"), ("change", "door"), ("remove", "yard")]
    assert [(each.name, each.timeout_s) for each in load(config).streams] == [("door", 5.0), ("attic", 5.0)]
    text = config.read_text()
    assert all(part in text for part in ("# two cameras", "# the front one", "${PASSWORD}")) and "secret" not in text


def test_what_is_refused_leaves_file_and_run_as_they_were(served: Served, client: RestClient, config: Path) -> None:
    refused: list[tuple[Any, int, str]] = [
        (lambda: client.add("door", "0"), 409, "there is a stream 'door' already"),
        (lambda: client.add("tape", "none.mp4"), 400, "configuration not taken over: .*does not exist"),
        (
            lambda: client.add("tape", "0", colour="red"),
            400,
            "^colour is not a key of this configuration",
        ),
        (lambda: client.add("a tape", "0"), 400, "^name is 'a tape', but must be 1 to 64 letters"),
        (lambda: client.add("tape", "rtsp://cam/${PASSWORD}"), 400, "must not name a variable"),
        (lambda: client.change("yard", timeout_s=-1), 400, r"streams\[1\].timeout_s is -1"),
        (lambda: client.change("yard", colour="red"), 400, "colour is not a key of a stream"),
        (lambda: client.change("yard", source=None), 400, "source is null"),
        (lambda: client.change("attic", loop=True), 404, "has no stream 'attic'"),
        (lambda: client.remove("attic"), 404, "has no stream 'attic'"),
        (lambda: client.switch("attic", detect=False), 404, "the run has no stream 'attic'"),
    ]
    for call, status, sentence in refused:
        with pytest.raises(RequestError, match=sentence) as refusal:
            call()
        assert refusal.value.status == status
    assert config.read_text() == CONFIG and not served.run.calls
    client.remove("yard")
    with pytest.raises(RequestError, match="'door' is the last stream"):
        client.remove("door")


def test_a_password_is_never_told(served: Served, client: RestClient) -> None:
    client.change("yard", password="hunter2", user="ada")
    assert served.run.there["yard"].password == "hunter2"
    told = client.stream("yard"), client.stream("door"), ask(served.path, LookOnly())
    assert "hunter2" not in str(told) and "secret" not in str(told) and "ada" not in str(told)


def test_switches_are_the_run_s_and_stay_when_its_file_is_read_again(served: Served, client: RestClient) -> None:
    assert client.stream("door").switches == {"detect": True, "record": True}
    assert client.switch("door", record=False) == {"detect": True, "record": False}
    assert client.switch("door", detect=False) == {"detect": False, "record": False}
    assert served.run.calls == [("remove", "door")]
    assert client.reload() == ReloadReport()
    assert client.switch("door", detect=True, record=True) == {"detect": True, "record": True}
    assert served.run.calls == [("remove", "door"), ("add", "door")]


def test_a_file_is_read_again_and_a_wrong_one_changes_nothing(served: Served, client: RestClient, config: Path) -> None:
    config.write_text(CONFIG.replace("10.0.0.8", "10.0.0.9"))
    assert client.reload() == ReloadReport(changed=("yard",))
    config.write_text("[[streams]]\nname = 4\n")
    with pytest.raises(RequestError, match=r"streams\[0\].name is 4") as refusal:
        client.reload()
    assert refusal.value.status == 409 and served.run.calls == [("change", "yard")]


def test_thresholds_and_rates_change_in_the_run_and_in_its_file(
    served: Served, client: RestClient, config: Path
) -> None:
    assert client.settings()["inference.fps"] == "full" and client.settings()["identity.similarity"] is None
    keys = {"inference.fps": 5, "inference.object_score": 0.41, "identity.similarity": -0.5}
    assert client.tune(keys) == SettingsChange(taken_over=True, written=True)
    assert client.settings() == {"inference.face_score": None, "inference.min_rate_hz": 1.0} | keys
    client.tune({"inference.object_score": None})
    assert load(config).inference == served.run.config.inference == InferenceSettings(fps=5.0)
    assert "# the front one" in config.read_text() and not served.run.calls
    before = config.read_text()
    for wrong, sentence in [
        ({"inference.fps": 0}, r"inference\.fps is 0, but must be a number above 0 or one of 'auto', 'full'"),
        ({"inference.fps": 9, "inference.max_batch": 2}, r"max_batch cannot be changed while a run goes on; these can"),
    ]:
        with pytest.raises(RequestError, match=sentence) as refusal:
            client.tune(wrong)
        assert refusal.value.status == 400 and config.read_text() == before
    config.write_text(before.replace("[inference]\nfps = 5", '[inference]\nfps = "auto"'))
    assert client.reload() == ReloadReport(tuned=("inference.fps",))


def test_a_run_without_a_file_is_changed_until_it_is_over(tmp_path: Path) -> None:
    with Served(tmp_path, None).on() as served, RestClient(served.url) as client:
        assert client.add("attic", "rtsp://cam/a", user="ada") == StreamChange("attic", True, False)
        assert client.change("attic", timeout_s=2.0).taken_over
        assert (served.run.there["attic"].timeout_s, served.run.there["attic"].user) == (2.0, "ada")
        with pytest.raises(RequestError, match=r"stream 'attic': timeout_s is -2\.0, but must be a number above 0"):
            client.change("attic", timeout_s=-2.0)
        assert client.tune({"inference.fps": "auto"}) == SettingsChange(taken_over=True, written=False)
        assert client.settings()["inference.fps"] == "auto"
        with pytest.raises(RequestError, match="no configuration file that could be read again"):
            client.reload()
        client.remove("attic")
    assert served.run.calls == [("add", "attic"), ("change", "attic"), ("remove", "attic")]


def test_without_a_run_streams_are_written_and_switches_refused(tmp_path: Path, config: Path) -> None:
    served = Served(tmp_path, config)
    served.site.places = replace(served.site.places, control=None)
    with served.on(), RestClient(served.url) as client:
        assert client.add("attic", "rtsp://cam/a") == StreamChange("attic", False, True)
        with pytest.raises(RequestError, match="no run is known to this server"):
            client.switch("attic", detect=False)
    assert not served.run.calls


def test_a_run_that_is_gone_is_told_and_nothing_is_left_behind(served: Served, client: RestClient) -> None:
    served.socket.close()
    with pytest.raises(RequestError, match="the run does not answer") as refusal:
        client.switch("door", detect=False)
    assert refusal.value.status == 503


def test_a_program_needs_a_token_with_the_right(tmp_path: Path, config: Path) -> None:
    with Served(tmp_path, config, login=True).on() as served:
        tokens = {role: bearer(served.site, role, "door")["authorization"][7:] for role in ("viewer", "admin")}
        with RestClient(served.url, tokens["viewer"]) as viewer, RestClient(served.url, tokens["admin"]) as admin:
            assert [each.name for each in viewer.streams()] == ["door"]
            for call in (lambda: viewer.remove("door"), lambda: viewer.stream("door"), viewer.reload):
                with pytest.raises(RequestError) as refusal:
                    call()
                assert refusal.value.status == 403
            assert admin.switch("door", record=False)["record"] is False
        with RestClient(served.url) as nobody, pytest.raises(RequestError, match="log in first"):
            nobody.streams()


def test_events_come_page_by_page(served: Served, client: RestClient, tmp_path: Path) -> None:
    numbers = stored(tmp_path, *(event(float(second), label="dog") for second in range(5)))
    page = client.events(limit=2, label="dog")
    assert [each.id for each in page.events] == numbers[:-3:-1] and page.next is not None
    assert [each.id for each in client.all_events(label="dog")] == numbers[::-1]
    assert not client.is_ready()


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    for url in ("ftp://cam", "http://ada:secret@cam", "cam:80"):
        with pytest.raises(ConfigError, match="but must be http://HOST:PORT"):
            RestClient(url)
    with pytest.raises(ConfigError, match=r"ca_file is .*, which cannot be used"):
        RestClient("https://127.0.0.1:1", ca_file=tmp_path / "none.pem")
    with (
        RestClient("http://127.0.0.1:9") as client,
        pytest.raises(RequestError, match="does not answer"),
    ):
        client.streams()
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml")

        threading.Thread(target=speak, daemon=True).start()
        with (
            RestClient(f"http://127.0.0.1:{other.getsockname()[1]}") as client,
            pytest.raises(MessageError, match="GET /api/streams was answered by 200, which follows no form"),
        ):
            client.streams()


def test_the_command_line_does_all_of_it(served: Served, config: Path) -> None:
    def said(*arguments: str, status: int = 0) -> str:
        verb, *rest = arguments
        given = [verb, *rest, "--url", served.url]
        done = CliRunner().invoke(commands, given)
        assert done.exit_code == status, done.output
        return done.stdout or done.stderr

    assert said("streams", "add", "attic", "rtsp://cam/a", "--set", "timeout_s=3") == (
        "attic added in the configuration and the run\n"
    )
    assert "attic changed in" in said("streams", "change", "attic", "--set", 'transport="udp"', "--set", "timeout_s=")
    assert (served.run.there["attic"].transport, served.run.there["attic"].timeout_s) == ("udp", 5.0)
    assert said("streams", "switch", "attic", "--record", "off") == "attic: detect on, record off\n"
    assert {each["name"] for each in msgspec.json.decode(said("streams", "list", "--json"))} >= {"door", "attic"}
    assert "attic" in said("streams", "list")
    assert "attic removed in" in said("streams", "remove", "attic")
    tuned = said("tune", "inference.fps=5", "identity.similarity=").splitlines()
    assert {"inference.fps = 5.0", "identity.similarity = the model decides"} <= set(tuned)
    assert tuned[-1] == "in the configuration and the run"
    assert msgspec.json.decode(said("tune", "--json"))["inference.fps"] == 5.0
    assert said("reload") == "nothing is different\n"
    config.write_text(config.read_text().replace("10.0.0.8", "10.0.0.9"))
    assert said("reload") == "yard changed\n"
    assert "there is a stream 'door' already" in said("streams", "add", "door", "0", status=2)
    assert "whose value is no TOML" in said("streams", "change", "door", "--set", "transport=udp", status=2)
    assert "must be KEY=VALUE" in said("streams", "change", "door", "--set", "transport", status=2)


def test_why_a_stream_is_down_is_told_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "Connection refused: nobody listens at 10.0.0.9:554; check the port, and whether it is switched on [now]"
    streams = [StreamReport(name="door", state="up", cause=""), StreamReport(name="yard", state="down", cause=why)]
    monkeypatch.setattr(RestClient, "streams", lambda client: streams)
    done = CliRunner().invoke(commands, ["streams", "list"], terminal_width=80)
    *table, last = done.stdout.splitlines()
    assert last == f"yard: {why}"
    assert len(table) == 6 and "door" in table[3]
