"""Backends of other packages: the one of docs/extending.md, installed, damaged, twice and not at all."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.backends.base import backend_names, find_backend
from engines.engine import available, choose_backend, open_engine
from engines.errors import BackendUnavailable, ConfigError
from pipeline.settings.load import load
from tests.engines.made_models import pictures, write_model

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(package, code, line)``: as pip would leave it on the path, with the one entry point."""

    def install(package: str, code: str, line: str) -> None:
        site = tmp_path / package
        about = site / f"{package}-1.0.dist-info"
        about.mkdir(parents=True)
        (site / f"{package}.py").write_text(code)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[trunkline.backends]\n{line}\n")
        monkeypatch.syspath_prepend(site)

    return install


@pytest.fixture
def _plain(install: Install) -> None:
    section = PAGE.read_text().partition("\n## A backend\n")[2]
    code, project = re.findall(r"```(?:python|toml)\n(.*?)```", section, re.DOTALL)[:2]
    ((name, at),) = tomllib.loads(project)["project"]["entry-points"]["trunkline.backends"].items()
    install("plain_backend", code, f"{name} = {at}")


@pytest.mark.usefixtures("_plain")
def test_the_example_of_the_page_runs_a_model(tmp_path: Path) -> None:
    batch = pictures(3, 32, 48)
    model = write_model(tmp_path / "model")
    with open_engine(model, "frame", "plain") as engine, open_engine(model, "frame", "onnxruntime") as reference:
        found, expected = engine.infer(batch), reference.infer(batch)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
    with pytest.raises(BackendUnavailable, match="backend 'plain' has precision 'f32', not 'int8'"):
        open_engine(model, "frame", "plain", "int8")


@pytest.mark.usefixtures("_plain")
def test_auto_does_not_take_a_backend_of_another_package() -> None:
    assert "plain" in {status.name for status in available()}
    assert choose_backend().backend in ("tensorrt", "torch", "openvino", "onnxruntime")


@pytest.mark.usefixtures("_plain")
def test_a_configuration_may_name_it(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    text = '[[streams]]\nname = "door"\nsource = "0"\n[model]\nbackend = "{}"\n'
    file.write_text(text.format("plain"))
    assert load(file).model.backend == "plain"
    file.write_text(text.format("plan"))
    with pytest.raises(ConfigError, match=r"model\.backend is 'plan', but must be one of 'auto', .*'plain'"):
        load(file)


def test_a_backend_that_is_not_installed_is_an_error_that_lists_those_that_are() -> None:
    assert backend_names() == ("onnxruntime", "openvino", "tensorrt", "torch")
    with pytest.raises(BackendUnavailable, match="backend is 'plain', but must be one that is installed: 'onnxrunt"):
        find_backend("plain")


def test_a_backend_that_cannot_be_imported_is_listed_and_refused(install: Install, tmp_path: Path) -> None:
    install("broken", "import a_library_that_is_missing", "broken = broken:backend")
    [status] = [status for status in available() if status.name == "broken"]
    assert not status.available
    with pytest.raises(BackendUnavailable, match="backend 'broken' cannot run: broken:backend cannot be imported"):
        open_engine(write_model(tmp_path / "model"), "frame", "broken")


def test_a_name_that_two_packages_bring_is_refused(install: Install) -> None:
    install("first", "backend = None", "same = first:backend")
    install("second", "backend = None", "same = second:backend")
    with pytest.raises(BackendUnavailable, match="'same' is brought twice, by first:backend and second:backend"):
        find_backend("same")
