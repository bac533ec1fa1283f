"""Which frames go through the network together, and when: pure state.

The runtime, service and cluster rooms may import it.
"""

from pipeline.batching.batcher import Batcher, Taken, Waiting, backlog
from pipeline.batching.forecast import ArrivalEstimator, EngineTimes, Load

__all__ = [
    "ArrivalEstimator",
    "Batcher",
    "EngineTimes",
    "Load",
    "Taken",
    "Waiting",
    "backlog",
]
