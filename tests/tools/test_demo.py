import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import typer

from engines.errors import ModelError, StageError
from pipeline.gallery import Gallery
from pipeline.settings.load import load
from tests.engines.made_models import write_partial_model
from tools import demo as verb
from tools.demo import SOURCE_VARIABLE, demo

PRETENDED = Path(__file__).with_name("pretend_trunkline.py")
CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.integration


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every command is pretended and nothing is rendered; gives the command lines so far."""
    log = tmp_path / "commands.log"
    monkeypatch.setattr(verb, "TRUNKLINE", (sys.executable, str(PRETENDED)))
    monkeypatch.setattr(verb, "render", lambda clip, truth, advanced: clip.write_bytes(b""))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("PRETEND_LOG", str(log))
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def run_demo(out: Path, **options) -> dict:
    demo(**{"source": None, "out": out, "seconds": 1.0, "as_json": True, "keep": False} | options)
    return json.loads((out / "summary.json").read_text())


def test_the_demo_enrols_runs_enrols_again_and_leaves_its_files(commands, tmp_path: Path, capsys) -> None:
    out = tmp_path / 'out "put" é'  # a name that has to be quoted well
    summary = run_demo(out)
    assert [command[:2] for command in commands()] == [
        ["enroll", "Eileen Collins"],
        ["run", str(out / "run.toml")],
        ["enroll", "Grace Hopper"],
    ]
    assert summary["captured"] == summary["published"] == summary["received"] == 750
    assert list(summary["identities"]) == ["Eileen Collins", "Grace Hopper"]
    assert summary["identities"]["Eileen Collins"]["frames"] == 750
    assert summary["enrolled_live_at_s"] > 0
    assert json.loads(capsys.readouterr().out) == summary
    for name in ("annotated.mp4", "contact_sheet.png", "run.log"):
        assert (out / name).is_file()
    lines = (out / "messages.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(750))
    config = load(out / "run.toml")
    assert (config.streams[0].source, config.streams[0].pace) == (str(out / "clip.mp4"), "realtime")
    assert config.identity.gallery == str(out / "gallery.sqlite")
    assert config.web is not None and config.sinks[0].options.directory == str(out / "events")


def test_the_demo_goes_on_with_the_page_when_it_is_to(commands, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PRETEND_FRAMES", "10")
    run_demo(tmp_path, source="0", keep=True)
    assert [command[0] for command in commands()] == ["run", "run"]
    config = load(tmp_path / "run.toml")
    assert config.web is not None and f"http://{config.web.address}" in capsys.readouterr().err
    assert config.record.directory is None and not config.streams[0].loop


def test_whatever_ends_the_demo_ends_its_run(commands, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRETEND_FRAMES", "0")
    handled = signal.getsignal(signal.SIGTERM)

    def end() -> None:
        while not (tmp_path / "commands.log").is_file() or len(commands()) < 2:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
    run_demo(tmp_path, source="0", keep=True)
    assert signal.getsignal(signal.SIGTERM) == handled and (tmp_path / "run.json").is_file()


def test_a_model_that_lacks_a_task_shows_no_demo(tmp_path: Path, monkeypatch) -> None:
    partial = write_partial_model(tmp_path / "partial", "scene")
    monkeypatch.setattr(verb, "load_model", lambda path: partial)
    with pytest.raises(ModelError, match="demo needs a model that knows objects, faces, scene, identity; model"):
        run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_second_demo_does_not_mix_with_the_first_and_leaves_other_files_alone(
    commands, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("PRETEND_FRAMES", "10")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "gallery.sqlite").write_text("of an earlier demo")
    (tmp_path / "recording").mkdir()
    (tmp_path / "recording" / "demo.mp4").write_text("of an earlier demo")
    run_demo(tmp_path, source="0")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with Gallery(tmp_path / "gallery.sqlite") as gallery:
        assert gallery.people() == []
    assert not (tmp_path / "recording" / "demo.mp4").exists()


def test_a_source_is_watched_for_so_long_and_nobody_is_enrolled(commands, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRETEND_FRAMES", "0")
    summary = run_demo(tmp_path, source="rtsp://camera/stream")
    assert [command[0] for command in commands()] == ["run"]
    assert summary["captured"] == summary["published"] > 100
    assert summary["enrolled_live_at_s"] is None


def test_a_password_in_the_source_is_in_no_file(commands, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRETEND_FRAMES", "10")
    source = "rtsp://ada:secret@camera/stream"
    assert run_demo(tmp_path, source=source)["source"] == "rtsp://***@camera/stream"
    assert load(tmp_path / "run.toml", {SOURCE_VARIABLE: source}).streams[0].source == source
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"secret" not in file.read_bytes(), file


def test_a_lost_frame_ends_the_demo_with_status_1(commands, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRETEND_FRAMES", "10")
    monkeypatch.setenv("PRETEND_LOST", "1")
    with pytest.raises(typer.Exit) as exit_:
        run_demo(tmp_path, source="0")
    assert exit_.value.exit_code == 1


def test_a_run_that_fails_ends_the_demo_with_what_it_said(commands, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRETEND_RUN", "2")
    with pytest.raises(StageError, match=r"exit status 2: model n: cannot read spec\.json"):
        run_demo(tmp_path, source="0")


def test_an_enrolment_that_fails_ends_the_demo_before_it_runs(commands, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRETEND_ENROLL", "2")
    with pytest.raises(StageError, match=r"trunkline enroll failed: no face in the photo"):
        run_demo(tmp_path)
    assert [command[0] for command in commands()] == ["enroll"]
