"""Environments into which Trunkline is installed as others install it, away from the checkout."""

import re
import shutil
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_of_source(folder: Path) -> Path:
    """Copy what is packaged, so that neither a build folder of the checkout gets in nor one is left there."""
    for part in ("engines", "pipeline", "tools"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)
    return folder


def show_other_packages(environment: Path) -> None:
    """Let a bare environment see this one's packages, so that none has to be downloaded."""
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(path for path in packages_here() if path != str(packages)) + "\n")


def packages_here() -> list[str]:
    """The folders of this environment's packages."""
    # Plain paths: hooks of an editable install, which would find the checkout, are not in them.
    return [*(path for path in sys.path if path.endswith("site-packages")), sysconfig.get_paths()["purelib"]]


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, each with its arguments, in one line."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile.cpu").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def last(name: str) -> str:
    """The arguments of the last instruction of a name."""
    return [rest for word, rest in instructions() if word == name][-1]
