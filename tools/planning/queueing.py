"""How long work waits for one of several servers: Erlang's C, and the exponential tail of Allen and Cunneen's M/G/c."""

import math
from typing import Final

SHARE: Final = 0.99  # of the work, that waits no longer


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that work has to wait, in [0, 1], of an M/M/c queue.

    Args:
        servers: how many there are.
        offered: work that arrives, in servers' time for each unit of time; from ``servers`` on all work waits.

    >>> round(erlang_c(2, 1.0), 4)
    0.3333
    """
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1.0 - offered / servers * (1.0 - blocked))


def waiting_percentile(servers: int, rate: float, service: float, variation: float) -> float:
    """Return how long 99 % of the work waits at the most, in the unit of ``service``.

    Exact for M/M/c. For other service times the tail is stretched by (1 + ``variation``) / 2, as is the mean in Allen
    and Cunneen's approximation (Allen, "Probability, Statistics and Queueing Theory", 1990).

    Args:
        servers: how many there are.
        rate: arrivals for each unit of time.
        service: mean time that one takes.
        variation: squared coefficient of variation of that time: 0 where all take the same.

    Returns:
        Infinity where more arrives than can be served.
    """
    if rate * service >= servers:
        return math.inf
    waits = erlang_c(servers, rate * service)
    if waits <= 1.0 - SHARE:
        return 0.0
    per_time = servers / service - rate
    return math.log(waits / (1.0 - SHARE)) / per_time * (1.0 + variation) / 2.0
