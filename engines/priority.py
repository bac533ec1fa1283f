"""Threads that give way to others where cores are scarce."""

import os
import sys
import threading
from typing import Final

NICE: Final = 10


def give_way() -> None:
    """Lower the priority of this thread and of those that it starts, by NICE; on Linux, where threads have one each."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
