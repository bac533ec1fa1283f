"""The engine cache, broken on purpose."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engines.backends.trt_cache import EngineKey, cache_folder, cached, read_timing, write_timing
from engines.errors import EngineError
from engines.spec import Model
from tests.engines.made_models import pictures, write_model
from tests.fakes import tensorrt_double
from tests.fakes.tensorrt_double import Machine

Open = Callable[..., Any]
KEY = EngineKey(
    network="00",
    tensorrt="11.4.0",
    gpu="Made GPU",
    capability="9.0",
    precision="f16",
    shapes=((1, 2, 2, 3), (2, 2, 2, 3), (8, 2, 2, 3)),
    version_compatible=False,
)
OTHERS = {
    "network": "01",
    "tensorrt": "11.5.0",
    "gpu": "Other GPU",
    "capability": "8.9",
    "precision": "f32",
    "shapes": ((1, 2, 2, 3), (2, 2, 2, 3), (9, 2, 2, 3)),
    "version_compatible": True,
}


def engines(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.engine"))


def test_an_engine_is_built_once(opened: Open, machine: Machine) -> None:
    for _ in range(3):
        with opened() as engine:
            engine.infer(pictures(1, 32, 48))
    assert machine.calls["built"] == 1


def test_every_part_of_the_key_names_another_file(tmp_path: Path) -> None:
    assert OTHERS.keys() == set(EngineKey.__struct_fields__), "each has another value here"
    for field, value in OTHERS.items():
        cached(tmp_path, msgspec.structs.replace(KEY, **{field: value}), lambda: b"plan", bytes)
    cached(tmp_path, KEY, lambda: b"plan", bytes)
    assert len(engines(tmp_path)) == len(OTHERS) + 1


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("a bit of the engine is another", lambda text: text[:-1] + bytes([text[-1] ^ 1])),
        ("it was cut off", lambda text: text[: len(text) // 2]),
        ("it is empty", lambda text: b""),
        ("it is something else", lambda text: b"\x00\xff no engine"),
        ("its header is of another form", lambda text: b"{}\n" + text.split(b"\n", 1)[1]),
        ("its header is another engine's", lambda text: text.replace(b"Made GPU", b"Fake GPU", 1)),
    ],
)
def test_a_damaged_file_is_built_again(
    opened: Open, machine: Machine, tmp_path: Path, case: str, change: Callable[[bytes], bytes]
) -> None:
    opened().close()
    [file] = engines(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(change(whole))
    opened().close()
    assert machine.calls["built"] == 2, case
    assert file.read_bytes() == whole


def test_an_engine_that_tensorrt_does_not_take_is_built_again(tmp_path: Path) -> None:
    cached(tmp_path, KEY, lambda: b"old", bytes)
    assert cached(tmp_path, KEY, lambda: b"new", lambda plan: plan if plan == b"new" else None) == b"new"


def test_an_engine_that_never_loads_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not load the engine that it has just built"):
        cached(tmp_path, KEY, lambda: b"plan", lambda plan: None)


def test_another_version_of_tensorrt_builds_its_own(opened: Open, machine: Machine, made: Model) -> None:
    opened().close()
    with_another_version(machine, "11.5.0.1")
    opened().close()
    assert machine.calls["built"] == 2


def test_a_version_compatible_engine_serves_later_versions_of_its_major_one(opened: Open, machine: Machine) -> None:
    opened(version_compatible=True).close()
    with_another_version(machine, "11.5.0.1")
    with opened() as engine:
        engine.infer(pictures(1, 32, 48))
    assert machine.calls["built"] == 1


@pytest.mark.parametrize(("case", "version"), [("an earlier one", "11.3.0.99"), ("another major one", "10.16.1.11")])
def test_a_version_compatible_engine_serves_no_other(opened: Open, machine: Machine, case: str, version: str) -> None:
    opened(version_compatible=True).close()
    with_another_version(machine, version)
    opened().close()
    assert machine.calls["built"] == 2, case


def with_another_version(machine: Machine, version: str) -> None:
    """As after an update of TensorRT, in the same process."""
    import tensorrt

    machine.version = version
    tensorrt.__version__ = version
    assert tensorrt_double  # the double, not the real one, which a version cannot be set of


def test_a_build_that_fails_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        cached(tmp_path, KEY, fail, bytes)
    assert engines(tmp_path) == []
    assert cached(tmp_path, KEY, lambda: b"plan", bytes) == b"plan"


def _build_slowly(folder: Path, built: "multiprocessing.Queue[int]", number: int) -> None:
    def build() -> bytes:
        built.put(number)
        time.sleep(0.5)  # long enough for the others to come
        return b"plan"

    assert cached(folder, KEY, build, bytes) == b"plan"


def test_processes_that_need_the_same_engine_at_once_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    built: multiprocessing.Queue[int] = context.Queue()
    processes = [context.Process(target=_build_slowly, args=(tmp_path, built, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    built.get(timeout=5)
    assert built.empty()


def _die_while_building(folder: Path) -> None:
    import os

    cached(folder, KEY, lambda: os._exit(3), bytes)


def test_a_process_that_dies_while_it_builds_keeps_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_while_building, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == 3
    assert cached(tmp_path, KEY, lambda: b"plan", bytes) == b"plan"
    assert [file.suffix for file in sorted(tmp_path.iterdir())] == [".engine", ".lock"], "no parts lie about"


def test_a_cache_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"the engine cache .*file.* cannot be used: "):
        cached(tmp_path / "file", KEY, lambda: b"plan", bytes)


def test_timings_help_the_next_build(opened: Open, machine: Machine, made: Model) -> None:
    opened("f16").close()
    opened("f32").close()
    contents = [config._timing._content for config in machine.configs if config._timing]
    assert contents == [b"timed", b"timedtimed"]


def test_timings_of_another_gpu_are_not_used(opened: Open, machine: Machine, tmp_path: Path) -> None:
    opened("f16").close()
    [file] = tmp_path.glob("cache/**/*.timing")
    file.write_bytes(b"of another GPU")
    opened("f32").close()
    assert file.read_bytes() == b"timed"


def test_timings_belong_to_a_version_and_a_gpu(tmp_path: Path) -> None:
    write_timing(tmp_path, KEY, b"timed")
    assert read_timing(tmp_path, msgspec.structs.replace(KEY, network="01", precision="f32")) == b"timed"
    assert read_timing(tmp_path, msgspec.structs.replace(KEY, tensorrt="11.5.0")) == b""


def test_the_cache_lies_where_the_system_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "trunkline" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "trunkline" / "engines"


def test_two_models_do_not_share_an_engine(opened: Open, machine: Machine, tmp_path: Path) -> None:
    opened().close()
    opened(entry="face").close()
    opened(model=write_model(tmp_path / "again")).close()
    assert machine.calls["built"] == 2, "the third one is the first one's copy"
