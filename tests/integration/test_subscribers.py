"""The subscribers of docs/messages.md in other languages, as they stand there."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.settings.schema import PublishSettings
from pipeline.sinks.zmq import Publisher
from pipeline.wire.messages import ObjectMessage
from tests.pipeline.made_messages import frame

PERSON = ObjectMessage(17, "person", 0.91, (1.0, 2.0, 3.0, 4.0))
PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
GO_VERSION = "v0.17.0"  # of the package, for the module file
INSTALL_S, RUN_S = 90, 60

pytestmark = pytest.mark.integration


def program(language: str, address: str) -> str:
    """What the page shows in a language, for the publisher at an address."""
    (shown,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown.count("tcp://127.0.0.1:5555") == 1
    return str(shown.replace("tcp://127.0.0.1:5555", address))


@contextmanager
def publishing() -> Iterator[str]:
    """Two streams' frames, again and again; gives the address."""
    over = threading.Event()
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:

        def speak() -> None:
            while not over.wait(0.05):
                publisher.send(frame("door2", 1841, PERSON))
                publisher.send(frame("door", 1841, PERSON))

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield publisher.address
        finally:
            over.set()
            thread.join()


def first_line(command: list[str], folder: Path) -> str:
    """What a program prints first; it is ended then."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(RUN_S, process.kill)
        timer.start()
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        process.kill()
        timer.cancel()
        assert line, process.stderr.read()
    return line


def installed(command: list[str], folder: Path, name: str) -> None:
    """Install a package, or skip the test and say why it cannot be."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{name} cannot be installed: {error}")
    if done.returncode:
        pytest.skip(f"{name} cannot be installed: {(done.stderr or done.stdout).strip()[-300:]}")


@pytest.mark.skipif(shutil.which("npm") is None, reason="Node is missing: Debian's npm brings it")
def test_node_hears_a_stream_and_not_the_one_whose_name_begins_alike(tmp_path: Path) -> None:
    installed(["npm", "install", "--no-audit", "--no-fund", "zeromq"], tmp_path, "zeromq")
    with publishing() as address:
        (tmp_path / "subscriber.mjs").write_text(program("js", address))
        assert first_line(["node", "subscriber.mjs"], tmp_path) == "1841 person\n"


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is missing: Debian's golang has it")
def test_go_hears_a_stream_and_not_the_one_whose_name_begins_alike(tmp_path: Path) -> None:
    with publishing() as address:
        (tmp_path / "main.go").write_text(program("go", address))
        (tmp_path / "go.mod").write_text(f"module subscriber\n\nrequire github.com/go-zeromq/zmq4 {GO_VERSION}\n")
        installed(["go", "mod", "tidy"], tmp_path, "github.com/go-zeromq/zmq4")
        subprocess.run(["go", "build", "-o", "subscriber", "."], cwd=tmp_path, check=True, timeout=RUN_S)
        assert first_line(["./subscriber"], tmp_path) == "1841 [{person}]\n"
