"""What the operating system lets this process and those that it starts do."""

import resource
from contextlib import suppress
from typing import Final

MAX_DESCRIPTORS: Final = 65_536


def set_limits() -> None:
    """Write no core dumps, which hold passwords and pictures of people; and have as many descriptors as are allowed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # a sandbox may say otherwise
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
