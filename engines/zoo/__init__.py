"""The released models, each a folder with its card; :func:`model_folder` finds them by their names."""

from importlib.resources import files
from pathlib import Path

from engines.errors import ModelError


def released() -> tuple[str, ...]:
    """The names of the released models.

    >>> released()
    ('n', 's')
    """
    return tuple(sorted(folder.parent.name for folder in _zoo().glob("*/spec.json")))


def model_folder(named: str | Path) -> Path:
    """The folder of a model: a released one by its name (``n``), any other by its path.

    Raises:
        ModelError: the name of a released model is also a folder here with another model in it.
    """
    path = Path(named)
    if str(path) not in released():
        return path
    found = _zoo() / path
    if (path / "spec.json").is_file() and not path.samefile(found):
        raise ModelError(
            f"model {str(named)!r} is both the released model of this name and the folder {path.resolve()}; "
            "name the folder by its full path, or rename it"
        )
    return found


def model_name(folder: Path) -> str:
    """How a model is named where others read it: a released one by its name, any other by its path.

    >>> model_name(model_folder("n")), model_name(Path("runs/mine"))
    ('n', 'runs/mine')
    """
    return folder.name if folder.parent == _zoo() and folder.name in released() else str(folder)


def _zoo() -> Path:
    # Packages are unpacked wherever Trunkline runs: engines open the files themselves.
    return Path(str(files(__name__)))
