from pathlib import Path

import pytest

from engines.errors import ModelError
from engines.spec import load_model
from engines.zoo import model_folder, model_name, released
from pipeline.settings.schema import ModelSettings

ZOO = Path(__file__).parents[2] / "engines" / "zoo"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models are found from any directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [path.parent.name for path in ZOO.glob("*/spec.json")])
def test_a_released_model_is_found_by_its_name(name: str) -> None:
    assert name in released()
    assert model_folder(name) == model_folder(Path(name)) == ZOO / name
    assert load_model(name).path == ZOO / name


def test_the_default_model_is_found_from_any_directory() -> None:
    assert load_model(ModelSettings().path).spec.name == "s"


@pytest.mark.parametrize("path", ["mine", "models/n", "/models/n", "../n", "N"])
def test_any_other_name_is_a_path(path: str) -> None:
    assert model_folder(path) == Path(path)


def test_a_folder_of_another_model_with_a_released_name_is_not_passed_over(elsewhere: Path) -> None:
    (elsewhere / "n").mkdir()
    assert model_folder("n") == ZOO / "n"
    (elsewhere / "n" / "spec.json").write_text("{}")
    with pytest.raises(ModelError, match=rf"model 'n' is both the released model .* and the folder {elsewhere}/n"):
        model_folder("n")
    assert model_folder(elsewhere / "n") == elsewhere / "n"


def test_a_released_model_is_told_by_its_name_and_not_by_where_it_lies() -> None:
    assert model_name(load_model("n").path) == "n"
    assert model_name(Path("models/n")) == "models/n"


def test_the_folder_itself_is_no_other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ZOO)
    assert model_folder("n") == ZOO / "n"


def test_a_name_that_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model x: cannot read spec\.json: No such file"):
        load_model("x")
