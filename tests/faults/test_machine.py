"""What the machine may lack: shared memory, a disk that can be written, the process that started others."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.errors import ConfigError
from pipeline.runtime.shared_file import shared_file
from tests.pipeline.made_runs import write_model
from tools.benchmarking.processes import descendants
from tools.soaking.camera import Camera, wait_until
from tools.soaking.trunkline import Trunkline

PATIENCE_S = 120.0
READ_ONLY = Path("/proc")  # nobody can make a folder there, root neither
TRUNKLINE = (sys.executable, "-c", "from tools.main import main; main()")
ROOT = Path(__file__).parents[2]

linux = pytest.mark.skipif(not (READ_ONLY / "self").exists(), reason="needs Linux")


def test_full_shared_memory_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(ConfigError, match=r"needs 4 MiB of shared memory for frames here: No space left on device"):
        shared_file(4 * 2**20, "frames")
    assert len(os.listdir("/dev/fd")) == before


NOT_WRITABLE = {
    "store": '[[sinks]]\nkind = "store"\ndirectory = "/proc/events"',
    "messages": '[[sinks]]\nkind = "jsonl"\npath = "/proc/messages.jsonl"',
    "recording": '[record]\ndirectory = "/proc/videos"',
    "gallery": '[identity]\ngallery = "/proc/people.sqlite"',
}


@linux
@pytest.mark.integration
def test_a_disk_that_cannot_be_written_is_refused_with_a_sentence(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip, model = make_clip(tmp_path / "clip.mp4", 4, (64, 48), 10), write_model(tmp_path / "model").path
    started = {}
    for name, where in NOT_WRITABLE.items():  # all at once: most of the time goes into imports
        (tmp_path / f"{name}.toml").write_text(
            f'[model]\npath = "{model}"\nbackend = "onnxruntime"\n[publish]\naddress = "tcp://127.0.0.1:0"\n{where}\n'
            f'[[streams]]\nname = "film"\nsource = "{clip}"\n'
        )
        started[name] = subprocess.Popen(
            (*TRUNKLINE, "run", f"{name}.toml"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
        )
    for name, process in started.items():
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 2, f"{name}: {said}"
        assert "/proc/" in said.strip().splitlines()[-1] and "Traceback" not in said, name


@linux
@pytest.mark.integration
def test_a_full_disk_leaves_the_gallery_as_it_was(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from engines.errors import GalleryError\n"
        "from pipeline.gallery.gallery import Gallery\n"
        "with Gallery('people.sqlite', 'f' * 64) as gallery:\n"
        "    gallery.enroll('Ada', np.ones((1, 128), np.float32), ['a'])\n"
        "    import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "    try:\n"
        "        for number in range(100):\n"
        "            gallery.enroll(f'Bob {number}', np.ones((20, 128), np.float32), list('abcdefghijklmnopqrst'))\n"
        "    except GalleryError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "people.sqlite" in done.stdout and len(done.stdout.splitlines()) == 1
    from pipeline.gallery.gallery import Gallery

    with Gallery(tmp_path / "people.sqlite", "f" * 64) as gallery:
        assert "Ada" in {person.name for person in gallery.people()}


@linux
@pytest.mark.integration
def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    with Camera(1) as camera:
        model = str(write_model(tmp_path / "model").path)
        with Trunkline(tmp_path, {"door": camera.address}, model, "zmq", PATIENCE_S) as trunkline:
            assert wait_until(lambda: trunkline.frames["door"] and trunkline.page_answers(), PATIENCE_S) is not None
            started = descendants(trunkline.process.pid)
            assert len(started) >= 5
            os.kill(trunkline.process.pid, signal.SIGKILL)
            trunkline.process.wait()
            assert wait_until(lambda: not any(map(is_there, started)), 20.0) is not None, [
                command for pid, command in started.items() if is_there(pid)
            ]


@linux
@pytest.mark.slow
@pytest.mark.integration
def test_what_sinks_sent_is_counted_on_when_each_process_is_killed(tmp_path: Path) -> None:
    with Camera(1) as camera:
        model = str(write_model(tmp_path / "model").path)
        with Trunkline(tmp_path, {"door": camera.address}, model, "zmq", PATIENCE_S) as trunkline:
            assert wait_until(lambda: len(trunkline.frames["door"]) > 20, PATIENCE_S) is not None
            children = trunkline.children()
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            last_s = time.monotonic() + 2.0
            assert wait_until(lambda: trunkline.up("door", last_s), PATIENCE_S) is not None
            assert trunkline.log().count('"process died"') == len(children)
            summary = trunkline.stop()
    publish, books = summary["sinks"]["publish"], summary["streams"]["door"]
    assert publish["sent"] + sum(publish["lost"].values()) > books["published"]


def is_there(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "pipeline" / "public")))}
