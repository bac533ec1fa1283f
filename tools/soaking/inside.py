"""What a soak puts into the Trunkline that it watches: a backend that can fail, and a clock that can be set."""

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final

FOLDER: Final = "TRUNKLINE_SOAK"  # environment: the soak's folder
CLOCK: Final = "clock"  # file in it: how far Python's clock is set forth, a double in seconds
SECONDS: Final = struct.Struct("d")
SITE: Final = "site"  # folder in it, on the path of all its processes
START: Final = "from tools.soaking.inside import follow_clock\nfollow_clock()\n"
ROOT: Final = Path(__file__).parents[2]


def prepare(folder: Path) -> dict[str, str]:
    """Write what is put into a Trunkline; return the environment that puts it there."""
    site = folder / SITE
    about = site / "trunkline_soak-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: trunkline-soak\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[trunkline.backends]\nsoak = tools.soaking.engine:soak\n")
    (site / "sitecustomize.py").write_text(START)
    set_clock(folder, 0.0)
    paths = (str(site), str(ROOT), os.environ.get("PYTHONPATH", ""))
    return os.environ | {FOLDER: str(folder), "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def set_clock(folder: Path, seconds: float) -> None:
    """Let the clock of its processes be so far ahead from now on."""
    file = folder / CLOCK
    with file.open("r+b" if file.exists() else "xb") as opened:  # who has it mapped sees it
        opened.write(SECONDS.pack(seconds))


def follow_clock() -> None:
    """Let ``time.time`` and ``time.time_ns`` of this process follow the file. C code still sees the machine's clock."""
    file = Path(os.environ[FOLDER]) / CLOCK
    with file.open("rb") as opened:
        memory = mmap.mmap(opened.fileno(), SECONDS.size, access=mmap.ACCESS_READ)
    real, real_ns = time.time, time.time_ns

    def ahead_s() -> float:
        (seconds,) = SECONDS.unpack_from(memory)
        return float(seconds)

    time.time = lambda: real() + ahead_s()
    time.time_ns = lambda: real_ns() + round(ahead_s() * 1e9)
