"""``trunkline run`` tells how much of its files it could read: in the summary, and by its exit status."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from engines.spec import Model
from tests.pipeline.made_clips import write_clip
from tools.main import app

LINKS = pytest.mark.parametrize("links", ["queue", pytest.param("zmq", marks=pytest.mark.integration)])
SIZE = (160, 120)
SECRET = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


@pytest.fixture(autouse=True)
def logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(model: Model, tmp_path: Path) -> Callable[..., Result]:
    def run_files(links: str, **files: Path) -> Result:
        streams = "".join(f"[[streams]]\nname = '{name}'\nsource = '{path}'\n" for name, path in files.items())
        config = tmp_path / "site.toml"
        config.write_text(
            f"links = '{links}'\n{streams}[model]\npath = '{model.path}'\nbackend = 'onnxruntime'\n"
            "[publish]\naddress = 'tcp://127.0.0.1:0'\n"
        )
        summary = tmp_path / "summary.json"
        arguments = ["--log-level", "warning", "run", str(config), "--summary", str(summary)]
        return CliRunner().invoke(app, arguments)

    return run_files


@LINKS
def test_a_damaged_file_is_read_in_part(run: Callable[..., Result], tmp_path: Path, links: str) -> None:
    good = write_clip(tmp_path / "good.mkv", 12, SIZE)
    bad = write_clip(tmp_path / "bad.mkv", 30, SIZE, options={"bf": "0"}, broken=(3, 4, 20, 28, 29))
    result = run(links, good=good, bad=bad)
    assert result.exit_code == 3, result.output
    streams = json.loads((tmp_path / "summary.json").read_text())["streams"]
    assert (streams["good"]["read"], streams["bad"]["read"]) == ("all", "part")
    books = streams["bad"]
    assert books["captured"] == books["published"] + sum(books["dropped"].values()) == 30
    assert books["dropped"]["undecodable"] > 0
    assert f"{books['dropped']['undecodable']} undecodable" in books["cause"]
    assert f"bad: only a part could be read: {books['cause']}" in result.stdout
    assert "good: only" not in result.stdout


@LINKS
def test_of_an_encrypted_file_nothing_is_read(run: Callable[..., Result], tmp_path: Path, links: str) -> None:
    result = run(links, secret=write_clip(tmp_path / "secret.mp4", 6, SIZE, container_options=SECRET))
    assert result.exit_code == 4, result.output
    books = json.loads((tmp_path / "summary.json").read_text())["streams"]["secret"]
    assert (books["captured"], books["published"], books["dropped"]) == (6, 0, {"encrypted": 6})
    assert "secret: nothing could be read: nothing could be decoded: it is encrypted" in result.stdout


def test_a_file_that_is_cut_off_is_read_in_part(run: Callable[..., Result], tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", 40, SIZE).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    result = run("queue", half=tmp_path / "half.mkv")
    assert result.exit_code == 3, result.output
    assert "is not whole: " in json.loads((tmp_path / "summary.json").read_text())["streams"]["half"]["cause"]
