"""Labels and scenes over time.

The runtime, service and cluster rooms may import it.
"""

from pipeline.smoothing.stage import LabelSmoother, SceneSmoother, Smoothers, smooth

__all__ = [
    "LabelSmoother",
    "SceneSmoother",
    "Smoothers",
    "smooth",
]
