"""Times as text."""

import time
from functools import lru_cache


def timestamp(unix_ns: int) -> str:
    """RFC 3339 in UTC with milliseconds, cut off and not rounded, from Unix time in nanoseconds.

    >>> timestamp(1795425247_120_999_999)
    '2026-11-23T09:14:07.120Z'
    """
    seconds, milliseconds = divmod(unix_ns // 1_000_000, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16)  # the frames of all streams fall into a few seconds
def _second(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))
