"""What ``pip install trunkline`` brings without an extra: the client, on msgspec, pyzmq and the standard library."""

import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

import trunkline
from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import Health
from pipeline.settings.schema import PublishSettings
from pipeline.sinks.zmq import Publisher
from pipeline.wire.build import health_message
from tools.start import EXTRA_OF, missing_extra

ROOT = Path(__file__).parents[1]

# Finders are asked for what is not imported yet: whatever is neither ours nor allowed is as if it were not installed.
ALONE = f"""
import sys
class Alone:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {{"msgspec", "zmq", "trunkline", "pipeline", "engines", "tools", *sys.stdlib_module_names}}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Alone())
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "pipeline" / "public")!r}]
"""


def alone(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", ALONE + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_client_receives_messages_with_msgspec_and_pyzmq_alone() -> None:
    code = """
from trunkline import HealthMessage, Subscriber
with Subscriber(sys.argv[1], timeout_s=30.0) as subscriber:
    message = next(subscriber)
assert isinstance(message, HealthMessage)
print(message.stream, message.state)
"""
    over = threading.Event()
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:

        def speak() -> None:
            if publisher.await_subscriber(30.0, over.is_set):
                publisher.send(health_message(Health("door", "up", "opened", 0), FrameCounts(0, 0, {})))

        speaking = threading.Thread(target=speak)
        speaking.start()
        done = alone(code, publisher.address)
        over.set()
        speaking.join()
    assert (done.returncode, done.stdout) == (0, "door up\n"), done.stderr


def test_messages_are_converted_with_msgspec_and_pyzmq_alone_but_for_what_supervision_needs() -> None:
    code = """
from trunkline import AsyncSubscriber, FrameMessage, TimingsMessage, to_coco, to_detections
timings = TimingsMessage(0.0, 0.0, 0.0, 0.0)
frame = FrameMessage(stream="door", seq=7, captured_at="", size=(64, 48), objects=(), faces=(), scene=(),
                     timings_ms=timings, dropped={})
print(to_coco([frame])["images"][0]["file_name"])
to_detections(frame)
"""
    done = alone(code)
    assert done.stdout == "door/7.jpg\n", done.stderr
    assert "which the extra 'supervision' brings: pip install 'trunkline[supervision]'" in done.stderr


def test_the_fence_around_the_client_holds() -> None:
    assert "No module named 'numpy'" in alone("import numpy").stderr


@pytest.mark.parametrize("arguments", [["run", "0"], ["--help"]])
def test_the_command_names_the_extra_that_is_missing(arguments: list[str]) -> None:
    done = alone("from tools.start import main; main()", *arguments)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the Python package typer is missing, which the extra 'run' brings: pip install 'trunkline[run]'\n"
    )


def test_a_verb_names_the_extra_that_is_missing() -> None:
    code = "import sys; sys.modules['av'] = None; from tools.start import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--help"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("which the extra 'run' brings: pip install 'trunkline[run]'\n")
    assert "Traceback" not in done.stderr


def test_a_module_that_no_extra_brings_is_a_bug() -> None:
    assert missing_extra(ModuleNotFoundError(name="pipeline.gone")) is None


PACKAGES = {  # of the modules that are called otherwise
    "PIL": "pillow",
    "argon2": "argon2-cffi",
    "cuda": "cuda-bindings",
    "cv2": "opencv-python-headless",
    "markdown_it": "markdown-it-py",
    "opentelemetry": "opentelemetry-exporter-otlp-proto-http",
    "pynvml": "nvidia-ml-py",
    "skimage": "scikit-image",
}


def test_every_requirement_of_an_extra_has_its_module() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in EXTRA_OF:
        own = {name.partition(">=")[0] for name in extras[extra] if not name.startswith("trunkline[")}
        known = {PACKAGES.get(module, module.replace("_", "-")) for modules in EXTRA_OF.values() for module in modules}
        assert own <= known, f"tools/start.py does not know of a package of the extra {extra!r}"


def test_everything_exported_is_there() -> None:
    assert all(hasattr(trunkline, name) for name in trunkline.__all__)
    assert trunkline.__version__.count(".") == 2
