"""From what a frame costs to the machine that some streams need; pure functions."""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from tools.planning.costs import FrameCosts
from tools.planning.queueing import waiting_percentile

MAX_CORES: Final = 512
MAX_STREAMS: Final = 10_000
CORES_A_SHARD: Final = 4  # as postprocess.shards = "auto" has it
MAX_SHARDS: Final = 16

Part = Literal["decoding", "the network", "everything else", "a shard of postprocessing", "one stream's decoding"]


@dataclass(frozen=True, slots=True)
class PlannedLoad:
    """What is to be run.

    Attributes:
        streams: how many.
        fps: frames a second of each.
        inferred: frames a second of each that the network sees, ``fps`` at the most.
        p99_ms: latency that 99 of 100 frames must keep.
        crops: parts of each inferred picture that the network sees besides.
    """

    streams: int
    fps: float
    inferred: float
    p99_ms: float
    crops: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that a load needs, in cores like those that were measured."""

    cores: int | None  # None: no number of them is enough
    p99_ms: float | None  # of the frames that are inferred, on that many
    busy: float | None  # share of their time
    first: Part  # what is nearest to its limit there
    demand: dict[str, float]  # cores that each part keeps busy
    here_cores: int  # of this machine
    here_streams: int  # such streams that it carries


def plan(costs: FrameCosts, load: PlannedLoad, here_cores: int) -> Plan:
    """Return the least number of cores that carries a load, and how many such streams this machine does."""
    demand = demand_of(costs, load)
    cores = next((number for number in range(1, MAX_CORES + 1) if holds(costs, load, number)), None)
    return Plan(
        cores=cores,
        p99_ms=None if cores is None else round(p99_ms(costs, load, cores), 1),
        busy=None if cores is None else round(busy_cores(costs, load, cores) / cores, 3),
        first=first_limit(costs, load, cores or MAX_CORES),
        demand={name: round(value, 3) for name, value in demand.items()},
        here_cores=here_cores,
        here_streams=most_streams(costs, load, here_cores),
    )


def demand_of(costs: FrameCosts, load: PlannedLoad) -> dict[str, float]:
    """Return the cores that each part keeps busy."""
    frames, inferred = load.streams * load.fps / 1e3, load.streams * load.inferred / 1e3
    return {
        "decoding": frames * costs.decode,
        "the network": inferred * costs.looking(load.crops),
        "everything else": frames * costs.rest,
    }


def busy_cores(costs: FrameCosts, load: PlannedLoad, cores: int) -> float:
    """Return how many of the cores a load keeps busy: the more they are idle, the more a frame costs."""
    demand = sum(demand_of(costs, load).values())
    if demand >= cores:
        return demand
    # busy = demand * (idle + (1 - idle) * busy / cores)
    return demand * costs.idle * cores / (cores + demand * (costs.idle - 1.0))


def p99_ms(costs: FrameCosts, load: PlannedLoad, cores: int) -> float:
    """Return the latency that 99 of 100 inferred frames keep: the work on one of them, and what it waits for a core."""
    share = load.inferred / load.fps
    between = costs.decode + costs.rest
    whole = between + costs.looking(load.crops)
    mean = share * whole + (1.0 - share) * between
    square = share * whole**2 + (1.0 - share) * between**2
    rate = load.streams * load.fps / 1e3  # a millisecond
    return whole + waiting_percentile(cores, rate, mean, square / mean**2 - 1.0)


def holds(costs: FrameCosts, load: PlannedLoad, cores: int) -> bool:
    """Whether so many cores carry a load within its latency."""
    return _busiest_thread(costs, load, cores)[1] < 1.0 and p99_ms(costs, load, cores) <= load.p99_ms


def most_streams(costs: FrameCosts, load: PlannedLoad, cores: int) -> int:
    """Return how many such streams so many cores carry."""
    low, high = 0, MAX_STREAMS + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(costs, replace(load, streams=middle), cores):
            low = middle
        else:
            high = middle
    return low


def first_limit(costs: FrameCosts, load: PlannedLoad, cores: int) -> Part:
    """Return what comes to its limit first as streams are added: a thread that is alone, or the largest part of all."""
    demand = demand_of(costs, load)
    thread, busy = _busiest_thread(costs, load, cores)
    if busy >= sum(demand.values()) / cores:
        return thread
    largest = max(demand, key=lambda name: demand[name])
    return "decoding" if largest == "decoding" else "the network" if largest == "the network" else "everything else"


def _busiest_thread(costs: FrameCosts, load: PlannedLoad, cores: int) -> tuple[Part, float]:
    """What only one core can do at a time, and the share of its time that it is busy: postprocessing holds a lock."""
    shards = min(MAX_SHARDS, math.ceil(cores / CORES_A_SHARD), max(load.streams, 1))
    shard = math.ceil(load.streams / shards) * load.fps * costs.rest / 1e3
    one = load.fps * costs.decode / 1e3
    return ("a shard of postprocessing", shard) if shard >= one else ("one stream's decoding", one)
