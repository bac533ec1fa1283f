"""The repository's shape: where its packages come from and who imports whom."""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections import defaultdict
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import grimp
import pytest

from engines.backends.base import GROUP

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("engines", "pipeline", "tools")
RUN_TIME = "pipeline.service.run, tools.main, tools.run, tools.demo, tools.benchmark"
WITHOUT_TORCH = f"import sys; sys.modules['torch'] = None; import {RUN_TIME}"
LOADED = "print('scipy.optimize' in sys.modules)"


def python(code: str, folder: Path) -> str:
    """What a new interpreter prints, started in a folder."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_this_checkouts_own(package: str) -> None:
    assert Path(importlib.import_module(package).__file__).parent == CHECKOUT / package


def test_the_face_is_this_checkouts_own_and_has_one_name() -> None:
    face = Path(importlib.import_module("trunkline").__file__).parent
    assert face == CHECKOUT / "pipeline" / "public" / "trunkline"
    assert not (face.parent / "__init__.py").exists(), "or it could be imported as pipeline.public.trunkline, too"


def test_the_installed_command_finds_this_checkout_from_anywhere(tmp_path: Path) -> None:
    try:
        distribution("trunkline")
    except PackageNotFoundError:
        pytest.skip("trunkline is not installed in this environment (pip install -e .)")
    names = ", ".join(PACKAGES)
    found = python(
        f"import {names}, trunkline; print(*(m.__file__ for m in ({names}, trunkline)), sep='\\n')", tmp_path
    )
    *own, face = (Path(line).parent for line in found.splitlines())
    assert own == [CHECKOUT / package for package in PACKAGES]
    assert face == CHECKOUT / "pipeline" / "public" / "trunkline"


def test_imports_follow_the_contracts() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_no_class_name_stands_twice() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for file in (each for package in PACKAGES for each in (CHECKOUT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(file.relative_to(CHECKOUT)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


@pytest.mark.parametrize(("folders", "limit"), [(PACKAGES, 400), (("tests",), 500)], ids=["source", "tests"])
def test_no_file_is_longer_than_one_reads(folders: tuple[str, ...], limit: int) -> None:
    files = [file for folder in folders for file in (CHECKOUT / folder).rglob("*.py")]
    lines = {str(file.relative_to(CHECKOUT)): file.read_text().count("\n") for file in files}
    assert {name: count for name, count in lines.items() if count > limit} == {}


def test_the_installed_backends_are_those_of_this_checkout() -> None:
    named = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"]["trunkline.backends"]
    installed = {point.name: point.value for point in distribution("trunkline").entry_points.select(group=GROUP)}
    assert installed == named, "install the checkout anew: pip install -e . --no-deps"


def test_a_run_needs_no_torch_and_begins_without_the_solver_but_where_processes_are_forked() -> None:
    code = f"{WITHOUT_TORCH}; {LOADED}; import pipeline.runtime.workers.forking; {LOADED}"
    assert python(code, CHECKOUT).split() == ["False", "True"]
