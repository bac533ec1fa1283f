"""Pickle runs whatever it names: between our processes it may name values alone, and no other socket carries it."""

import ast
import os
import pickle
import stat
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pipeline.frames.types import Health
from pipeline.runtime.ring import Ring
from pipeline.runtime.transfer import pack, unpack
from pipeline.runtime.zmq_link import HealthReport, StreamBegun, WorkerContext
from pipeline.settings.redact import FromVariable
from pipeline.settings.schema import StreamSettings
from pipeline.wire.held_folder import HeldFolder

ROOT = Path(__file__).parents[3]
NO_RING = cast(Ring, None)
USES_PICKLE = {  # files of its own host's making: checkpoints and weights are read as tensors alone
    "engines/backends/weights.py",
    "engines/training/checkpoint.py",
    "pipeline/runtime/transfer.py",
    "pipeline/runtime/zmq_link.py",
}
MODULES, CALLS = {"pickle", "shelve", "marshal", "dill"}, {"send_pyobj", "recv_pyobj"}


class Runs:
    def __init__(self, what: Any, *arguments: Any) -> None:
        self._made = what, arguments

    def __reduce__(self) -> Any:
        return self._made


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(Runs(os.system, "touch /tmp/never"), id="a command"),
        pytest.param(Runs(eval, "1"), id="an expression"),
        pytest.param(Runs(pack, ()), id="a function of ours"),
        pytest.param(np.load, id="a function of NumPy"),
        pytest.param(Path("/etc/passwd"), id="a class of others"),
    ],
)
def test_what_is_no_value_is_refused_and_does_not_run(what: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is no value that moves between stages"):
        unpack([pickle.dumps(what)], NO_RING, NO_RING)


def test_values_come_through() -> None:
    settings = StreamSettings(name="door", source=FromVariable("rtsp://ada:secret@cam", "rtsp://${A}@cam"))
    for value in (StreamBegun(settings), HealthReport(Health("door", "up", "x", 1), None)):  # type: ignore[arg-type]
        assert unpack([pickle.dumps(value)], NO_RING, NO_RING) == value
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.float32(1.5)}
    back = unpack(pack(arrays), NO_RING, NO_RING)  # type: ignore[arg-type]
    assert (back["a"] == arrays["a"]).all() and back["b"] == arrays["b"]


def test_no_other_part_of_trunkline_knows_pickle() -> None:
    found = set()
    for folder in ("engines", "pipeline", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text()
            if file.is_relative_to(ROOT / "tools" / "peers") or not any(word in text for word in (*MODULES, *CALLS)):
                continue
            for node in ast.walk(ast.parse(text)):
                named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                named += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                calls = node.attr if isinstance(node, ast.Attribute) else ""
                if MODULES & set(named) or calls in CALLS:
                    found.add(file.relative_to(ROOT).as_posix())
    assert found == USES_PICKLE


def test_it_goes_through_sockets_in_the_folder_of_a_run_alone(tmp_path: Path) -> None:
    context = WorkerContext(3, NO_RING, NO_RING, str(tmp_path))
    assert context.address(3) == f"ipc://{tmp_path}/3"
    assert "HeldFolder() as folder" in (ROOT / "pipeline" / "runtime" / "processes.py").read_text()
    folder = HeldFolder()
    assert stat.S_IMODE(os.stat(folder.name).st_mode) == 0o700
    folder.cleanup()
