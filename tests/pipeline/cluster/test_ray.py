"""Streams on the nodes of a real cluster of Ray, of which one is killed, or one comes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec import structs

from engines.spec import Model
from pipeline.cluster.control import ClusterControl
from pipeline.cluster.ray import run_on_ray
from pipeline.cluster.shard import Runner
from pipeline.frames.events import Cause
from pipeline.runtime.summary import Summary
from pipeline.service.control import Control
from pipeline.service.run import run as run_pipeline
from tests.pipeline.made_runs import Run, check_books, check_ends, make_config

pytest.importorskip("ray", reason="Ray is not installed (pip install 'trunkline[cluster]')")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

FPS = 5
SMALL: dict[str, Any] = {"object_store_memory": 80 * 2**20}
BACK_S = 10.0  # within which streams of a dead node are to be elsewhere


@contextmanager
def cluster_of(nodes: int, cpus: int) -> Iterator[tuple[Any, list[Any]]]:
    """A cluster of local nodes, and those that may be killed: all but the first."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cpus, "include_dashboard": False, **SMALL}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster, [cluster.add_node(wait=False, num_cpus=cpus, **SMALL) for _ in range(nodes - 1)]
    finally:
        cluster.shutdown()


def on_ray(address: str) -> Callable[..., Summary]:
    runner = Runner(run_pipeline, Control)
    return lambda config, **options: run_on_ray(config, address, runner, **options)


def parents() -> dict[int, int]:
    """The process that started each process, by their ids."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def actors() -> list[int]:
    """The ids of the processes of shards that this one started, at whatever depth."""
    started = parents()

    def is_ours(process: int) -> bool:
        return process == os.getpid() or (process in started and is_ours(started[process]))

    def is_shard(process: int) -> bool:
        with suppress(OSError):
            return b"ray::ShardActor" in Path(f"/proc/{process}/cmdline").read_bytes()
        return False

    return sorted(process for process in started if is_ours(process) and is_shard(process))


def check_back(run: Run, names: tuple[str, ...]) -> float:
    """Something was just killed: check what subscribers are told until the end; seconds until all streams are back."""
    killed_s = time.monotonic()
    run.wait(lambda run: any(health.state == "down" for name in names for health in run.health(name)))
    run.wait(lambda run: all(run.health(name)[-1].state == "up" for name in names))
    back_s = time.monotonic() - killed_s
    heard = {name: len(run.frames(name)) for name in names}
    run.wait(lambda run: all(len(run.frames(name)) > heard[name] + FPS for name in names))
    summary = run.end_now()
    check_books(run, summary)
    moved = [name for name in names if any(health.state == "down" for health in run.health(name))]
    assert 0 < len(moved) < len(names)
    for name in names:
        states = [health.state for health in run.health(name)]
        assert states == (["up", "down", "up", "ended"] if name in moved else ["up", "ended"]), name
        assert any(event.event == "new" for event in run.events(name)), "nothing that could be open"
    assert check_ends(run, *get_args(Cause))["object", "crash"] >= len(moved)
    print(f"{len(moved)} of {len(names)} streams were lost, and back after {back_s:.1f} s")
    return back_s


@pytest.mark.slow
def test_streams_of_a_dead_actor_go_on(model: Model, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 10 * FPS, (160, 120), FPS)
    sources = {name: {"source": str(clip), "pace": "camera", "loop": True} for name in ("door", "yard")}
    config = make_config(model, sources, ray={"streams_per_shard": 1, "num_cpus": 0.25})
    run = Run(config, on_ray("local"))
    run.wait(lambda run: all(len(run.frames(name)) > FPS for name in sources))
    os.kill(actors()[0], signal.SIGKILL)
    back_s = check_back(run, tuple(sources))
    assert back_s < BACK_S


@contextmanager
def frozen(node: Any) -> Iterator[None]:
    """All processes of a node stand still, as on a host that hangs: its sockets stay open. Then they are killed."""
    (raylet,) = [each.process.pid for each in node.all_processes["raylet"]]
    ours = [raylet, *(process for process, parent in parents().items() if parent == raylet)]
    for process in ours:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in ours:
            os.kill(process, signal.SIGKILL)


@pytest.mark.slow
def test_streams_of_a_node_that_hangs_go_on_elsewhere(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 10 * FPS, (160, 120), FPS)
    sources = {name: {"source": str(clip), "pace": "camera", "loop": True} for name in ("door", "yard")}
    config = make_config(model, sources, ray={"streams_per_shard": 1})
    with cluster_of(nodes=2, cpus=4) as (cluster, workers):
        run = Run(config, on_ray(cluster.address))
        run.wait(lambda run: all(len(run.frames(name)) > FPS for name in sources))
        with frozen(workers[-1]):
            assert check_back(run, tuple(sources)) < BACK_S


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "nodes", "per_shard"), [(2, 2, 1), (24, 3, 8)])
def test_streams_of_a_dead_node_go_on_elsewhere(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, streams: int, nodes: int, per_shard: int
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 10 * FPS, (160, 120), FPS)
    sources = {f"s{number:02}": {"source": str(clip), "pace": "camera", "loop": True} for number in range(streams)}
    config = make_config(model, sources, ray={"streams_per_shard": per_shard})
    with cluster_of(nodes, cpus=4) as (cluster, workers):
        run = Run(config, on_ray(cluster.address))
        run.wait(lambda run: all(len(run.frames(name)) > FPS for name in sources))
        cluster.remove_node(workers[-1], allow_graceful=False)
        back_s = check_back(run, tuple(sources))
    assert back_s < BACK_S


@pytest.mark.slow
def test_streams_go_to_a_node_that_comes_and_others_are_added_and_removed(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 10 * FPS, (160, 120), FPS)
    sources = {f"s{number}": {"source": str(clip), "pace": "camera", "loop": True} for number in range(5)}
    config = make_config(model, sources, ray={"streams_per_shard": 4})
    *first, shed = config.streams
    config = structs.replace(config, streams=tuple(first))
    control = ClusterControl(config)
    with cluster_of(nodes=1, cpus=4) as (cluster, _):
        run = Run(config, on_ray(cluster.address), control=control)
        run.wait(lambda run: all(len(run.frames(stream.name)) > FPS for stream in first))
        cluster.add_node(wait=False, num_cpus=4, **SMALL)
        run.wait(lambda run: sum(_went(run, stream.name) for stream in first) == 2)
        control.add(shed)
        control.remove(first[0].name)
        run.wait(lambda run: len(run.frames(shed.name)) > FPS and run.health(first[0].name)[-1].state == "ended")
        assert len(actors()) == 2
        summary = run.end_now()
    check_books(run, summary)
    gaps_s = []
    for name in [stream.name for stream in first if _went(run, stream.name)]:
        times_s = [s for s, each in zip(run.received_s, run.messages, strict=True) if each.stream == name]
        gaps_s.append(max(later - earlier for earlier, later in pairwise(times_s)))
    assert check_ends(run, *get_args(Cause))["object", "down"] >= len(gaps_s)
    print(f"streams that moved were silent for {', '.join(f'{gap_s:.2f}' for gap_s in gaps_s)} s")


def _went(run: Run, stream: str) -> bool:
    """Whether a stream has moved and is up again, with frames."""
    states = [health.state for health in run.health(stream)]
    if states[:3] != ["up", "down", "up"]:
        return False
    assert run.health(stream)[1].cause == "moved to another shard"
    return run.frames(stream)[-1].seq + 1 > run.health(stream)[2].captured
