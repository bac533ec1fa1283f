import os
import stat
from pathlib import Path

import pytest

from engines.files import replacing, write_whole


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    write_whole(path, b"old")
    with replacing(path) as file:
        file.write(b"new, and longer")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new, and longer"
    assert names(tmp_path) == ["spec.json"]


@pytest.mark.parametrize("before", [None, b"old"])
def test_what_fails_half_way_changes_nothing(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "spec.json"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (path.read_bytes() if path.exists() else None) == before
    assert names(tmp_path) == (["spec.json"] if before else [])


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    """Of one process here, one inside the other; other threads and processes have other names."""
    path = tmp_path / "found.json"
    with replacing(path) as file:
        file.write(b"first")
        pid = os.fork()
        if pid == 0:
            write_whole(path, b"second")
            os._exit(0)
        os.waitpid(pid, 0)
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"


def test_a_file_is_for_all_whom_the_umask_lets_read(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "spec.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "spec.json").stat().st_mode) == 0o644
