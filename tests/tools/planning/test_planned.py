"""From the costs of a frame to a machine, and the queue in between."""

import heapq
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from engines.errors import ConfigError
from tests.tools.benchmarking.made_watched import make_heard, make_watched
from tools.benchmarking.streams import summarise
from tools.plan import plan_machine
from tools.planning.checking import check
from tools.planning.costs import FrameCosts
from tools.planning.planned import PlannedLoad, busy_cores, demand_of, holds, most_streams, p99_ms, plan
from tools.planning.queueing import erlang_c, waiting_percentile

COSTS = FrameCosts(size="1080p", decode=5.0, scale=0.4, network=9.7, rest=1.2)
LOAD = PlannedLoad(streams=30, fps=30.0, inferred=30.0, p99_ms=100.0)


def waited(servers: int, rate: float, services: np.ndarray, seed: int) -> np.ndarray:
    """How long each of many arrivals waits, simulated."""
    made = np.random.default_rng(seed)
    free = [0.0] * servers
    now, waits = 0.0, []
    for service, gap in zip(services, made.exponential(1.0 / rate, len(services)), strict=True):
        now += gap
        begin = max(now, heapq.heappop(free))
        heapq.heappush(free, begin + service)
        waits.append(begin - now)
    return np.array(waits)


def test_one_server_is_busy_when_work_comes_as_often_as_it_is_busy() -> None:
    for busy in (0.1, 0.5, 0.9):
        assert erlang_c(1, busy) == pytest.approx(busy)
    assert erlang_c(4, 4.0) == 1.0


def test_a_percentile_is_that_of_the_exact_formula_for_one_server() -> None:
    # P(W > t) = rho * exp(-(mu - lambda) t)
    assert waiting_percentile(1, 0.8, 1.0, 1.0) == pytest.approx(math.log(0.8 / 0.01) / 0.2)
    assert waiting_percentile(1, 0.005, 1.0, 1.0) == 0.0
    assert waiting_percentile(1, 1.0, 1.0, 1.0) == math.inf


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.7), (2, 0.8), (8, 0.9), (32, 0.95)])
@pytest.mark.parametrize("even", [True, False])
def test_a_percentile_is_near_to_what_is_simulated(servers: int, busy: float, even: bool) -> None:
    count = 60_000
    services = np.full(count, 1.0) if even else np.random.default_rng(1).exponential(1.0, count)
    simulated = float(np.percentile(waited(servers, servers * busy, services, 2)[5_000:], 99))
    said = waiting_percentile(servers, servers * busy, 1.0, 0.0 if even else 1.0)
    assert said == pytest.approx(simulated, rel=0.3, abs=0.3)


def test_demand_is_frames_times_what_they_cost() -> None:
    assert demand_of(COSTS, LOAD) == pytest.approx({"decoding": 4.5, "the network": 9.09, "everything else": 1.08})
    assert demand_of(COSTS, PlannedLoad(30, 30.0, 5.0, 100.0))["the network"] == pytest.approx(1.515)


def test_the_least_number_of_cores_that_holds_is_planned() -> None:
    planned = plan(COSTS, LOAD, 2)
    assert planned.cores is not None and planned.p99_ms is not None
    assert holds(COSTS, LOAD, planned.cores)
    assert not holds(COSTS, LOAD, planned.cores - 1)
    assert 15 <= planned.cores <= 18, "14.7 cores are busy"
    assert planned.p99_ms <= 100.0
    assert planned.first == "the network"
    assert planned.here_streams == 3


def test_a_crop_costs_what_a_picture_costs_to_scale_and_to_infer() -> None:
    two = replace(LOAD, crops=2)
    assert demand_of(COSTS, two) == pytest.approx({"decoding": 4.5, "the network": 27.27, "everything else": 1.08})
    assert p99_ms(COSTS, two, 500) == pytest.approx(5.0 + 3 * (0.4 + 9.7) + 1.2)
    once, often = (PlannedLoad(30, 30.0, inferred, 100.0, crops) for inferred, crops in ((15.0, 0), (5.0, 2)))
    assert demand_of(COSTS, once) == pytest.approx(demand_of(COSTS, often)), "as many rows"
    assert most_streams(COSTS, two, 8) < most_streams(COSTS, LOAD, 8)


def test_a_plan_says_how_many_crops_it_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.plan.measure_costs", lambda *arguments: COSTS)
    plan_machine(streams=30, crops=1)
    assert "20.20" in (said := capsys.readouterr().out)
    assert "30 of them inferred with 1 crop each" in " ".join(said.split())


def test_a_frame_costs_more_where_cores_are_idle() -> None:
    cold = structs.replace(COSTS, idle=1.5)
    little, much, all_ = (PlannedLoad(streams, 5.0, 5.0, 100.0) for streams in (1, 20, 200))
    assert busy_cores(cold, little, 64) == pytest.approx(1.5 * busy_cores(COSTS, little, 64), rel=0.01)
    assert busy_cores(COSTS, much, 2) < busy_cores(cold, much, 2) < 2.0
    busy = busy_cores(cold, much, 2)
    assert busy == pytest.approx(busy_cores(COSTS, much, 2) * (1.5 - 0.5 * busy / 2)), (
        "between both, by how busy they are"
    )
    assert busy_cores(cold, all_, 2) == busy_cores(COSTS, all_, 2)


def test_what_was_run_is_held_against_the_plan_for_as_many_streams() -> None:
    heard = [make_heard(stream="s000")] * 100
    report = summarise(5.0, {count: [make_watched(heard, cpu_s=cpu_s)] for count, cpu_s in ((1, 1.0), (64, 2.0))})
    one, many = check(COSTS, PlannedLoad(64, 5.0, 5.0, 100.0), 2, report.rows)
    assert one.cores_planned == pytest.approx(5 * 16.3 / 1e3, abs=1e-3)
    assert (one.cores_used, one.error) == (0.1, pytest.approx(0.0815 / 0.1 - 1.0, abs=1e-3))
    assert one.p99_planned_ms == pytest.approx(16.3) and many.p99_planned_ms is None


def test_looking_less_often_moves_the_limit_to_decoding() -> None:
    assert plan(COSTS, PlannedLoad(30, 30.0, 5.0, 100.0), 2).first == "decoding"


def test_one_stream_too_fast_for_a_core_and_a_latency_too_short_need_more_than_there_is() -> None:
    fast = plan(COSTS, PlannedLoad(1, 240.0, 1.0, 100.0), 2)
    assert (fast.cores, fast.first) == (None, "one stream's decoding")
    assert plan(COSTS, PlannedLoad(1, 30.0, 30.0, 10.0), 2).cores is None


def test_postprocessing_of_one_shard_is_a_limit_of_its_own() -> None:
    heavy = FrameCosts(size="360p", decode=0.1, scale=0.1, network=0.1, rest=20.0)
    assert plan(heavy, PlannedLoad(2, 30.0, 30.0, 100.0), 2).first == "a shard of postprocessing"
    assert not holds(heavy, PlannedLoad(2, 30.0, 30.0, 100.0), 4)


@given(st.integers(1, 60), st.floats(1.0, 60.0), st.integers(1, 64))
def test_more_cores_never_hold_less(streams: int, fps: float, cores: int) -> None:
    load = PlannedLoad(streams, fps, fps, 100.0)
    if holds(COSTS, load, cores):
        assert holds(COSTS, load, cores + 1)
    assert p99_ms(COSTS, load, cores + 1) <= p99_ms(COSTS, load, cores) + 1e-9
    assert most_streams(COSTS, load, cores) <= most_streams(COSTS, load, cores + 1)


def test_a_size_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="--size is '8k', but must be one of 360p"):
        plan_machine(streams=1, size="8k")
