"""The page that a run serves, as people start it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from engines.errors import ConfigError, RequestError
from pipeline.cluster.control import ClusterControl
from pipeline.gallery import Gallery
from pipeline.service.reloading import reload
from pipeline.settings.defaults import config_of
from pipeline.settings.load import load
from pipeline.settings.schema import GALLERY, Config, ModelSettings, PublishSettings, StreamSettings
from pipeline.wire.rest import RestClient
from tests.pipeline.cluster.made_cluster import MadeCluster
from tests.pipeline.made_runs import write_model
from tests.ports import free_port
from tests.waiting import until
from tools.main import app
from tools.page import RunPage, make_gallery, reachable, with_events
from tools.view import _gallery, _results, _store

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
LOOK_S = 0.1  # each look is a client of its own


def test_a_run_of_sources_keeps_its_events_with_their_pictures() -> None:
    config = with_events(config_of(["clip.mp4"]), clips=True)
    assert [(sink.kind, sink.options.clips) for sink in config.sinks] == [("store", True)] and config.events.best_crops
    assert config.streams[0].pace == "realtime", "who wants to watch a file wants to see it"


def test_a_gallery_is_made_where_there_is_none_and_stays_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_gallery("s")
    before = Path(GALLERY).stat()
    with Gallery(GALLERY) as gallery:
        assert gallery.people() == []
    make_gallery("s")
    assert Path(GALLERY).stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("listened", "reached"),
    [
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
        ("tcp://*:5555", "tcp://127.0.0.1:5555"),
        ("tcp://0.0.0.0:5555", "tcp://127.0.0.1:5555"),
        ("ipc:///run/results", "ipc:///run/results"),
    ],
)
def test_where_results_are_heard_on_this_host(listened: str, reached: str) -> None:
    assert reachable(listened) == reached


def test_the_process_is_told_all_that_the_configuration_does_not_say() -> None:
    command = RunPage(["a.mp4"], config_of(["a.mp4"]), "0.0.0.0:8443")._command("tcp://*:7000")
    assert command[:4] == [sys.executable, "-m", "tools.main", "view"] or command[3] == "--log-level"
    told = dict(zip(command[command.index("view") + 1 :: 2], command[command.index("view") + 2 :: 2], strict=True))
    assert told.pop("--packets").startswith("ipc://") and told.pop("--control").endswith("/control")
    assert told.pop("--log").endswith("/log")
    assert told == {
        "--results": "tcp://127.0.0.1:7000",
        "--address": "0.0.0.0:8443",
        "--model": ModelSettings().path,
        "--run": str(os.getpid()),
    }


def test_a_run_without_packets_has_a_page_without_moving_pictures() -> None:
    config = with_events(config_of(["a.mp4"]), clips=False)
    assert [sink.options.clips for sink in config.sinks] == [False]
    page = RunPage(["a.mp4"], config, None, packets=False)
    assert page.with_packets(config) == config and "--packets" not in page._command("tcp://127.0.0.1:7000")


def test_store_and_gallery_come_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    text = '[[streams]]\nname = "door"\nsource = "0"\n'
    file.write_text(text)
    assert (_store(load(file)), _gallery(load(file)), _store(None), _gallery(None)) == (
        None,
        Path(GALLERY),
        Path("events"),
        Path(GALLERY),
    )
    file.write_text(f'{text}[identity]\ngallery = "a.sqlite"\n[[sinks]]\nkind = "store"\ndirectory = "kept"\n')
    assert (_store(load(file)), _gallery(load(file))) == (Path("kept"), Path("a.sqlite"))


def test_a_port_that_is_not_known_has_to_be_told() -> None:
    anywhere = Config(
        streams=(StreamSettings(name="door", source="0"),), publish=PublishSettings(address="tcp://127.0.0.1:*")
    )
    with pytest.raises(ConfigError, match="give --results"):
        _results(anywhere)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--address", "8080"), "web.address is '8080', but must be HOST:PORT"),
        (("--address", "203.0.113.9:8080"), "which cannot be listened on"),
        (("--results", "nonsense"), "address is 'nonsense', but must be"),
        (("missing.toml",), "missing.toml: cannot be read"),
    ],
)
def test_what_cannot_be_served_gets_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["view", *(arguments if "--address" in arguments else (*arguments, "--address", "127.0.0.1:0"))]
    )
    assert (done.exit_code, done.output.count("\n")) == (2, 1) and sentence in done.output


def test_a_run_is_refused_before_it_begins_where_its_page_cannot_be_served(tmp_path: Path) -> None:
    lines = ["[[streams]]", 'name = "door"', 'source = "0"', "[web]", 'address = "127.0.0.1:0"']
    (tmp_path / "run.toml").write_text("\n".join([*lines, f'accounts = "{tmp_path}/nowhere/accounts.sqlite"']) + "\n")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "run.toml")])
    sentence = f"error: accounts file {tmp_path}/nowhere/accounts.sqlite: cannot be opened: No such file or directory\n"
    assert (done.exit_code, done.output) == (2, sentence)


def _state(url: str) -> str | None:
    try:
        streams = httpx.get(f"{url}/api/streams").json()
    except httpx.HTTPError:
        return None
    return streams[0]["state"] if streams else None


def _run(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tools.main", "run", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.integration
def test_of_sources_the_page_is_there_from_the_first_frame_and_stays_until_the_run_is_stopped(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model")
    make_clip(tmp_path / "clip.mp4", frames=5, size=(160, 120))
    url = f"http://127.0.0.1:{free_port()}"
    run = _run(tmp_path, "clip.mp4", "--model", str(model.path), "--web-address", url.removeprefix("http://"))
    try:
        until(lambda: _state(url) == "ended", look_s=LOOK_S)
        assert httpx.get(f"{url}/api/streams").json()[0]["captured"] == 5, "it was heard from the first frame on"
        run.send_signal(signal.SIGINT)
        told, _ = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
        run.wait()
    assert (run.returncode, told.splitlines()[0]) == (0, "clip: captured 5, published 5, dropped none")


@pytest.mark.integration
def test_a_run_on_several_nodes_is_listed_and_changed_through_its_page(tmp_path: Path) -> None:
    def steps(made: MadeCluster) -> Iterator[None]:
        while True:
            time.sleep(0.01)
            yield

    made, file, url = MadeCluster(steps), tmp_path / "run.toml", f"http://127.0.0.1:{free_port()}"
    streams = [f'[[streams]]\nname = "{name}"\nsource = "clip.mp4"\n' for name in ("door", "yard")]
    rest = f'[web]\naddress = "{url.removeprefix("http://")}"\naccounts = "{tmp_path}/accounts.sqlite"\n'
    file.write_text("".join(streams) + rest)
    config = load(file)
    control, page = ClusterControl(config), RunPage([str(file)], config, None, packets=False)
    running = threading.Thread(target=made.run)
    running.start()
    try:
        with control.of(made.supervisor), RestClient(url) as client:
            page.start("tcp://127.0.0.1:9", control, lambda: reload(lambda: load(file), config, control))
            until(lambda: _answers(client), look_s=LOOK_S)
            assert [each.name for each in client.streams()] == ["door", "yard"]
            added = client.add("shed", "clip.mp4")
            assert (added.taken_over, added.written) == (True, True)
            assert client.stream("shed").switches == {"detect": True, "record": True}
            with pytest.raises(RequestError, match="detect cannot be switched off while a run on several nodes"):
                client.switch("shed", detect=False)
            with pytest.raises(RequestError, match="cannot change while a run on several nodes goes on: restart it"):
                client.tune({"inference.fps": 5})
            file.write_text("".join(streams) + rest)
            assert client.reload().removed == ("shed",)
            until(lambda: made.placed[2].removed == ["shed"])
    finally:
        made.stop.set()
        running.join(PATIENCE_S)
        page.stop()


def _answers(client: RestClient) -> bool:
    with suppress(RequestError):
        return bool(client.streams())
    return False


@pytest.mark.integration
def test_a_run_serves_its_page_which_ends_with_it_however_it_ends(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model")
    clip = make_clip(tmp_path / "clip.mp4", frames=20, size=(160, 120))
    port = free_port()
    lines = ["[[streams]]", 'name = "door"', f'source = "{clip}"', 'pace = "camera"', "loop = true", "[model]"]
    lines += [f'path = "{model.path}"', 'backend = "onnxruntime"', "[publish]", 'address = "tcp://127.0.0.1:0"']
    (tmp_path / "run.toml").write_text("\n".join([*lines, "[web]", f'address = "127.0.0.1:{port}"']) + "\n")
    run = _run(tmp_path, "run.toml")
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _state(url) == "up", look_s=LOOK_S)
        run.send_signal(signal.SIGKILL)
        run.wait()
        until(lambda: _state(url) is None, look_s=LOOK_S)
    finally:
        run.kill()
        run.wait()
