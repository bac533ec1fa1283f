"""What the containers install is locked, with hashes, and is what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
LOCKS: Final = {
    "requirements-cpu.lock": ("Dockerfile.cpu", ("run", "integrations", "metrics", "web")),
    "requirements-tensorrt.lock": ("Dockerfile", ("import",)),
}


def asked(extras: tuple[str, ...]) -> list[Requirement]:
    """All that the project needs with some extras, and those that they name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found, waiting = list(map(Requirement, project["dependencies"])), list(extras)
    for extra in waiting:  # grows meanwhile
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if requirement.name == project["name"]:
                waiting += sorted(requirement.extras - set(waiting))
            else:
                found.append(requirement)
    return found


def pinned(lock: str) -> dict[str, set[str]]:
    """Name -> versions; several where they differ between systems."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_what_the_project_asks_for(lock: str) -> None:
    versions = pinned(lock)
    for requirement in asked(LOCKS[lock][1]):
        of_it = versions.get(canonicalize_name(requirement.name), set())
        assert of_it, f"{requirement} is not in {lock}: make lock"
        assert all(requirement.specifier.contains(each) for each in of_it), f"{requirement}: {of_it}; make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_all_of_a_lock_has_hashes(lock: str) -> None:
    parts = re.split(r"^(?=[\w.-]+==)", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(parts) > 20
    assert all("--hash=sha256:" in part for part in parts)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_container_installs_its_lock_and_nothing_else(lock: str) -> None:
    text = (ROOT / LOCKS[lock][0]).read_text()
    installs = re.findall(r"pip install ([^&\\\n]*)", text)
    assert [each.strip() for each in installs] == [
        f"--require-hashes --requirement {lock}",
        "--no-deps --no-build-isolation .",
    ]
