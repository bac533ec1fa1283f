"""``trunkline run --ray``: the shards of a run as actors of Ray, one results address, and one place for all sinks.

Frames never go through Ray: a shard captures, infers and publishes by itself, and the driver subscribes to it. This is
the only module that imports Ray, and only when it is used.
"""

import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import structlog
import zmq
import zmq.auth
from msgspec import structs

from engines.errors import ConfigError, TrunklineError, one_line
from pipeline.cluster.control import ClusterControl
from pipeline.cluster.placed import ShardLost
from pipeline.cluster.placement import (
    NodeResources,
    check_clustered,
    choose_node,
    config_of_shard,
    needed,
    shards_of,
)
from pipeline.cluster.shard import BUFFERED, OpenedShard, Runner, ShardReport, StreamShard
from pipeline.cluster.stream_books import StreamBooks
from pipeline.cluster.supervisor import ShardSupervisor
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.summary import Summary
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.fan_out import Sinks
from pipeline.sources.kind import settled
from pipeline.wire.client import Subscription
from pipeline.wire.messages import Message

if TYPE_CHECKING:
    import ray

OBJECTS_BYTES: Final = 80 * 2**20  # of a local cluster's object store: no frame goes there; Ray takes no less
CALLS: Final = 4  # of an actor at once: that it is open is waited for, and it is asked and stopped meanwhile
CONNECT_S: Final = 5.0  # that the address of a cluster has to answer
ASK_S: Final = 0.5  # between two answers of a shard
BURST: Final = 500  # messages that are taken between two looks at the shards

log = structlog.get_logger()


def run_on_ray(
    config: Config,
    address: str,
    runner: Runner,
    *,
    stop: threading.Event,
    wait_for_subscriber_s: float = 0.0,
    started: Callable[[str], None] = lambda address: None,
    control: ClusterControl | None = None,
) -> Summary:
    """Run every stream of a configuration on the nodes of a cluster until all have ended or ``stop`` is set.

    Args:
        config: what to run. Paths in it are those of the nodes, too.
        address: ``auto`` or HOST:PORT, of a cluster that this host belongs to; ``local``: one of this host alone.
        runner: what runs a shard.
        stop: set it to end the run; frames on their way are finished.
        wait_for_subscriber_s: hold the first frame back until somebody listens, for so long at most.
        started: called with the address of the results socket once all shards are open.
        control: adds, changes, removes and spreads streams meanwhile.

    Raises:
        TrunklineError: something in the configuration or the cluster cannot be had; nothing has run then. Or
            StageError: a shard was lost too often.
        ModuleNotFoundError: Ray is not installed.
    """
    check_clustered(config)
    config = structs.replace(config, streams=tuple(map(settled, config.streams)))
    names = [stream.name for stream in config.streams]
    with ExitStack() as opened:
        opened.enter_context(joined(address))
        sinks = opened.enter_context(Sinks(config))
        sinks.attach(runner.make_control())
        books = opened.enter_context(StreamBooks(names, sinks.send, sinks.begin, config.zmq.spare_streams))
        inbox = opened.enter_context(ShardInbox())
        place = RayPlacement(config, runner, inbox.public_key)
        supervisor = ShardSupervisor(config, shards_of(config), place, inbox, books, stop, place.nodes)
        try:
            if supervisor.open():
                started(sinks.address)
                sinks.await_subscriber(wait_for_subscriber_s, stop.is_set)
                with (control or ClusterControl(config)).of(supervisor):
                    supervisor.run()
        finally:
            supervisor.close()
        sinks.close()  # what waits is sent, and counted
        return supervisor.summary(sinks.counts)


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Join a cluster as its driver; without Ray's usage statistics and dashboard."""
    if "://" in address or not (address in ("auto", "local") or ":" in address):
        raise ConfigError(f"--ray is {address!r}, but must be auto, local or HOST:PORT")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ":" in address:
        _check_reachable(address)
    own: dict[str, Any] = {}
    if address == "local":
        own = {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES}
    try:
        with _kept_signals():
            ray.init(address=address, logging_level=logging.WARNING, **own)
    except Exception as error:  # where its processes do not start in time, Ray raises just that
        raise ConfigError(f"--ray is {address!r}, but no cluster can be joined there: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens: Ray would wait for minutes, and then abort the process."""
    host, _, port = address.rpartition(":")
    try:
        if not port.isdecimal():
            raise ValueError("it has no port")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ConfigError(f"--ray is {address!r}, but no cluster can be joined there: {one_line(error)}") from error


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Keep this process's own handler of SIGTERM, which ends a run orderly: Ray would have one that exits."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


class RayPlacement:
    """Gives shards to nodes: to the one with the most room, or, where none has enough, to whichever Ray finds."""

    def __init__(self, config: Config, runner: Runner, driver_key: str) -> None:
        self._config, self._runner, self._driver_key = config, runner, driver_key
        self._placed: list[RayShard] = []

    def nodes(self) -> list[NodeResources]:
        """Return those that are alive, as far as Ray knows."""
        import ray

        return [NodeResources(each["NodeID"], each["Resources"]) for each in ray.nodes() if each["Alive"]]  # type: ignore[no-untyped-call]

    def __call__(self, streams: tuple[StreamSettings, ...], avoided: Collection[str]) -> "RayShard":
        """Start an actor."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        wanted = needed(self._config.ray, streams[0].node)
        self._placed = [shard for shard in self._placed if not shard.killed]
        taken: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        for shard in self._placed:
            taken[shard.node or ""].append(shard.wanted)
        node = choose_node(self.nodes(), taken, wanted, avoided)
        strategy = "SPREAD" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)
        actor = ray.remote(ShardActor).options(
            num_cpus=wanted.pop("CPU", 0.0),
            num_gpus=wanted.pop("GPU", 0.0),
            resources=wanted,
            max_concurrency=CALLS,
            max_restarts=0,  # it would come back without what is known of it
            scheduling_strategy=strategy,
        )
        arguments = (config_of_shard(self._config, streams), self._runner, self._driver_key, os.getcwd())
        shard = RayShard(actor.remote(*arguments), needed(self._config.ray, streams[0].node), node)
        self._placed.append(shard)
        return shard


class ShardActor(StreamShard):
    """A shard that finds out where it is."""

    def __init__(self, config: Config, runner: Runner, driver_key: str, folder: str) -> None:
        import ray

        node, host = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        super().__init__(config, runner, driver_key, folder, host, node)


class RayShard:
    """An actor, as its supervisor sees it: a :class:`~pipeline.cluster.placed.PlacedShard`."""

    def __init__(self, actor: Any, wanted: dict[str, float], node: str | None) -> None:
        self.wanted, self.node, self.killed, self.unreachable = wanted, node, False, False
        self._actor = actor
        self._opened: ray.ObjectRef[OpenedShard] = actor.opened.remote()
        self._report: ray.ObjectRef[ShardReport] | None = None
        self._asked_s = 0.0

    def opened(self) -> OpenedShard | None:
        import ray

        try:
            opened: OpenedShard | None = _answer(self._opened)
        except ray.exceptions.ActorUnavailableError as error:
            raise ShardLost(reason_of(error)) from error
        if opened is not None:
            self.node = opened.node
        return opened

    def report(self) -> ShardReport | None:
        """See :class:`pipeline.cluster.placed.PlacedShard`; asks again now and then."""
        if self._report is None:
            if time.monotonic() - self._asked_s < ASK_S:
                return None
            self._report, self._asked_s = self._actor.report.remote(), time.monotonic()
        import ray

        try:
            report: ShardReport | None = _answer(self._report)
        except ray.exceptions.ActorUnavailableError:  # its process may be gone, or the network for a moment
            self.unreachable, self._report = True, None
            return None
        if report is not None:
            self.unreachable, self._report = False, None
        return report

    def add(self, settings: StreamSettings, resumed: Resumed) -> None:
        self._actor.add.remote(settings, resumed)

    def remove(self, name: str) -> None:
        self._actor.remove.remote(name)

    def stop(self) -> None:
        self._actor.stop.remote()

    def kill(self) -> None:
        import ray

        self.killed = True
        with suppress(ray.exceptions.RayError):
            ray.kill(self._actor)


def _answer(asked: Any) -> Any:
    """Return what an actor answered; None where it has not yet.

    Raises:
        ActorUnavailableError: nobody is at its address, perhaps for a moment. Else as of :class:`PlacedShard`.
    """
    import ray

    ready, _ = ray.wait([asked], timeout=0)
    if not ready:
        return None
    try:
        return ray.get(asked)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TrunklineError):
            raise error.cause from None
        raise ShardLost(one_line(error.cause or error)) from error
    except ray.exceptions.ActorUnavailableError:
        raise
    except ray.exceptions.RayError as error:  # the actor, its process or its node is gone
        raise ShardLost(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return the sentence of Ray's that says why: its messages have a line for each thing they know, and advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line for line in lines if "because" in line), lines[0] if lines else type(error).__name__)
    return line.partition(". ")[0].rstrip(".")


class ShardInbox:
    """The messages of all shards, each from its results socket. For one thread; only those with its key may connect."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trunkline-driver-")
        public, secret = zmq.auth.create_certificates(self._folder.name, "driver")
        self.public_key = Path(public).read_text()
        self._secret = secret
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._shards: dict[zmq.Socket[bytes], tuple[int, Subscription]] = {}

    def connect(self, shard: int, opened: OpenedShard) -> None:
        self.disconnect(shard)
        key = Path(self._folder.name) / f"shard{shard}.key"
        key.write_text(opened.server_key)
        heard = self._context.socket(zmq.SUB)
        heard.linger, heard.rcvhwm = 0, BUFFERED
        self._shards[heard] = shard, Subscription(heard, opened.address, None, None, key, self._secret)
        self._poller.register(heard, zmq.POLLIN)

    def disconnect(self, shard: int) -> None:
        for heard in [each for each, (number, _) in self._shards.items() if number == shard]:
            del self._shards[heard]
            self._poller.unregister(heard)
            heard.close()

    def receive(self, timeout_s: float) -> Iterable[tuple[int, Message]]:
        """See :class:`pipeline.cluster.placed.Inbox`; some of the messages, where many wait."""
        for heard, _ in self._poller.poll(round(1000 * timeout_s)):
            shard, subscription = self._shards[heard]
            with suppress(zmq.Again):
                for _ in range(BURST):
                    if (message := subscription.take(heard.recv_multipart(zmq.DONTWAIT))) is not None:
                        yield shard, message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for heard in self._shards:
            heard.close()
        self._context.term()
        self._folder.cleanup()
