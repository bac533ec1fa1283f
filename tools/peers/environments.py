"""Each peer's own virtual environment, made when it is first needed or its requirements have changed."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.peers.running import Failed, last_line

MADE: Final = "made-of.txt"  # in the environment, once it is whole


def torch_requirement() -> str:
    """As the Makefile has it: without an NVIDIA GPU the release for which package indexes offer a small CPU build."""
    return "torch" if shutil.which("nvidia-smi") else "torch==2.13.0"


def environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The Python of an environment with these requirements.

    Raises:
        Failed: it cannot be made.
    """
    python = folder / "bin" / "python"
    wanted = "\n".join((sys.version, *requirements))
    stamp = folder / MADE
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _call(sys.executable, "-m", "venv", str(folder))
        _call(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
        stamp.write_text(wanted)
    return python


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"its environment cannot be made: {last_line(done.stderr)}")
