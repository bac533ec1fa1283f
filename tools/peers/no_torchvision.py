"""Ultralytics imports torchvision for any video, where torchvision's wheel may not load: a CPU build of PyTorch.

A network without NMS calls nothing of it. So an empty module takes its place, and anything called would be an error.
"""

import sys
from types import ModuleType


def torchvision_or_nothing() -> None:
    """Make ``import torchvision`` succeed from now on."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        sys.modules["torchvision"] = ModuleType("torchvision")
