"""Temporary folders that a killed process leaves behind."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.wire.held_folder import HeldFolder

ROOT = Path(__file__).parents[3]
HOLD = (
    "from pipeline.wire.held_folder import HeldFolder; held = HeldFolder('page'); print(held.name, flush=True); input()"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@contextmanager
def another() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that holds a folder, and that folder."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_killed_process_folder_goes_with_the_next_and_one_in_use_stays(here: Path) -> None:
    others = [here / "trunkline-soak-1", here / "somebody"]
    for other in others:
        other.mkdir()
    with another() as (process, left):
        (left / "control").touch()
        with HeldFolder("page"):
            assert (left / "control").exists(), "it is in use"
        process.kill()
        process.wait()
        assert left.is_dir(), "nobody was there to remove it"
        with HeldFolder("packets") as name:
            assert sorted(here.iterdir()) == sorted([*others, Path(name)])
    assert sorted(here.iterdir()) == sorted(others)


def test_a_process_that_ends_leaves_nothing(here: Path) -> None:
    with another() as (process, folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        process.communicate("\n")
        assert process.returncode == 0 and not list(here.iterdir())


def test_another_s_folder_by_a_link_is_left_alone(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    precious = tmp_path_factory.mktemp("precious")
    (precious / ".held").touch()
    (here / "trunkline-trap").symlink_to(precious)
    HeldFolder().cleanup()
    assert (precious / ".held").exists()
