"""What every peer does alike: count frames, warm up, measure, and print one line of JSON.

Peers run in environments of their own: this file, and what it takes from Trunkline, needs Python and nothing else.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tools.benchmarking.processes import Usage, usage

WARM_UP_SHARE: Final = 0.2  # of the measured time, spent before it
WARM_UP_MIN_S: Final = 0.5  # first frames compile kernels and fill caches, however short the measurement


class Meter:
    """Counts frames; the first ones, a fifth of the measured ``seconds``, are the warm-up, and in no figure."""

    def __init__(self, seconds: float, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._warm_up_s = max(WARM_UP_SHARE * seconds, WARM_UP_MIN_S)
        self._clock_s = clock_s
        self._first_s: float | None = None
        self._began: tuple[float, Usage] | None = None  # when the warm-up was over
        self._ended: tuple[float, Usage] | None = None
        self._frames = self._boxes = 0

    def count(self, boxes: int = 0) -> bool:
        """Note one more finished frame with its boxes; False once the measured time is over."""
        now = self._clock_s()
        if self._first_s is None:
            self._first_s = now
        if self._began is None:
            if now - self._first_s >= self._warm_up_s:
                self._began = now, usage(os.getpid())
        elif self._ended is None:
            self._frames += 1
            self._boxes += boxes
            if now - self._began[0] >= self._seconds:
                self._ended = now, usage(os.getpid())
        return self._ended is None

    def measured(self, *, looks: bool = True) -> dict[str, Any]:
        """Return the figures, once :meth:`count` has said False.

        CPU time and memory are those of all processes, memory resident at the most, start included.

        Args:
            looks: whether the peer looks for anything; without that its frames have no number of boxes.

        Raises:
            RuntimeError: the measured time is not over.
        """
        if self._began is None or self._ended is None:
            raise RuntimeError("the source ended before the measured time was over")
        (began_s, before), (ended_s, after), frames = self._began, self._ended, self._frames
        return {
            "frames": frames,
            "seconds": round(ended_s - began_s, 3),
            "frames_per_s": round(frames / (ended_s - began_s), 3),
            "cpu_ms_per_frame": round(1e3 * (after.cpu_s - before.cpu_s) / frames, 4),
            "peak_mib": round(after.peak_bytes / 2**20, 1),
            "boxes_per_frame": round(self._boxes / frames, 2) if looks else None,
        }

    def report(self, packages: Sequence[str], *, looks: bool = True) -> None:
        """Print the one line that ``compare.py`` reads: the last, whatever libraries wrote before."""
        versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
        print(json.dumps(self.measured(looks=looks) | {"versions": versions}), flush=True)


def arguments(what: str | None, *, source: bool = True, model: bool = False) -> argparse.ArgumentParser:
    """Return the options that peers share."""
    parser = argparse.ArgumentParser(description=what)
    if source:
        parser.add_argument("--source", type=Path, required=True, help="video file")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time, after a warm-up of a fifth of it")
    if model:
        parser.add_argument("--model", type=Path, required=True, help="model folder")
    return parser


def stand_in_for_torchvision() -> None:
    """Put an empty module in its place where its wheel does not load, as with a CPU build of PyTorch.

    Ultralytics imports it for any video and any data set; a network without NMS calls nothing of it.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        sys.modules["torchvision"] = ModuleType("torchvision")
