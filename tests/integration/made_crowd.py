"""How crowded this machine is: how long a process of its own, with work like decoding, waits for its turn."""

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence

from pipeline.frames.types import Frame

# A process of its own: what holds up all threads of the one under test is the fault that is looked for.
TICKER = """
import json, sys, threading, time
over, waits = threading.Event(), []
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.is_set():
    began_ns, used_ns = time.monotonic_ns(), time.thread_time_ns()
    time.sleep(0.03)
    sum(range(100_000))
    now_ns = time.monotonic_ns()
    waits.append((began_ns, now_ns, now_ns - began_ns - 30_000_000 - (time.thread_time_ns() - used_ns)))
print(json.dumps(waits))
"""


class Crowd:
    """Measures from its making until it is asked."""

    def __init__(self) -> None:
        self._ticker = subprocess.Popen(
            [sys.executable, "-c", TICKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def longest_pause_s(self, frames: Sequence[Frame]) -> float:
        """The longest time between two frames, less what the ticker waited for its turn meanwhile."""
        waits = json.loads(self._ticker.communicate()[0])
        return (
            max(
                later.clock_ns
                - earlier.clock_ns
                - sum(wait for began, ended, wait in waits if began < later.clock_ns and ended > earlier.clock_ns)
                for earlier, later in itertools.pairwise(frames)
            )
            / 1e9
        )

    def close(self) -> None:
        """End the ticker, where nobody asked."""
        self._ticker.kill()
        self._ticker.wait()
