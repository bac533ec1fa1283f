"""A run, from its configuration to its summary.

The way of a frame is in :data:`pipeline.runtime.graph.STAGES`: capture, preprocess, start and collect (inference),
postprocess. Here it is chosen whether they are threads or processes.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import structlog
from msgspec import structs

from engines.errors import ConfigError
from engines.spec import Model
from pipeline.events.zones import check_zones
from pipeline.runtime.graph import FACES, STEPS, needs_of
from pipeline.runtime.parts import open_parts
from pipeline.runtime.processes import run_processes
from pipeline.runtime.shape import model_of, with_size
from pipeline.runtime.sharding import shard_count
from pipeline.runtime.streams import Attached, Streams
from pipeline.runtime.summary import Summary
from pipeline.runtime.threads import Pipeline
from pipeline.service.control import Control
from pipeline.settings.schema import Config
from pipeline.sinks.fan_out import Sinks
from pipeline.sinks.segments import SegmentFolder
from pipeline.sources.capture import Capture, check_source
from pipeline.sources.kind import settled

log = structlog.get_logger()


def run(
    config: Config,
    *,
    stop: threading.Event,
    wait_for_subscriber_s: float = 0.0,
    started: Callable[[str], None] = lambda address: None,
    source: Capture | None = None,
    control: Control | None = None,
    held: bool = False,
) -> Summary:
    """Run every stream of a configuration until all have ended or ``stop`` is set.

    Args:
        config: what to run; streams that are forwarded are :func:`pipeline.cluster.forwarding.run_forwarding`'s.
        stop: set it to end the run; frames on their way are finished.
        wait_for_subscriber_s: hold the first frame back until somebody listens, for so long at most.
        started: called with the address of the results socket once everything is open.
        source: what gives the frames of each stream, where stages are threads;
            None: :func:`pipeline.sources.capture.capture`.
        control: adds, changes and removes streams from when ``started`` was called until the run is over.
        held: its streams are not begun: ``control`` adds those, and it goes on until ``stop`` is set; only where stages
            are threads.

    Raises:
        TrunklineError: something in the configuration cannot be had; nothing has run then. Or StageError: a stage
            crashed too often.
    """
    if config.streams[0].forward is not None:
        raise ConfigError("streams[0].forward is there, but must be left out where the network is run")
    config = structs.replace(config, streams=tuple(map(settled, config.streams)))
    for stream in config.streams:
        check_source(stream)
    config = with_size(config)
    model = model_of(config)
    _check_tasks(config, model)
    if config.record.directory is not None:
        SegmentFolder(config.record).check(len(config.streams))
    control = control or Control()
    with ExitStack() as opened:
        attached = _attached(config, control, opened)
        if config.links == "zmq":
            return run_processes(config, model, stop, wait_for_subscriber_s, started, attached, control)
        parts = open_parts(config, model, needs_of((*STEPS, FACES)), opened, shard_count(config))
        assert parts.publisher is not None
        parts.publisher.attach(control)
        started(parts.publisher.address)
        _await_subscriber(parts.publisher, wait_for_subscriber_s, stop)
        summary = Pipeline(parts, stop, source, held).run(attached)
    return replace(summary, sinks=parts.publisher.counts)


def _attached(config: Config, control: Control, opened: ExitStack) -> Attached:
    """Who may use the streams of the run while it goes on: its control, and the metrics where they are asked for."""
    if config.metrics.address is None:
        return control.of
    from pipeline.service.metrics import MetricsServer  # it needs the extra "metrics"

    metrics = opened.enter_context(MetricsServer(config))
    log.info("metrics", port=metrics.port)

    @contextmanager
    def attached(streams: Streams) -> Iterator[None]:
        with control.of(streams), metrics.of(streams):
            yield

    return attached


def _check_tasks(config: Config, model: Model) -> None:
    """Raise ModelError, or ConfigError for a label, where the model has not what the configuration asks for."""
    model.spec.entry("frame")
    check_zones(config.streams, model.spec.objects)
    if config.identity.gallery is not None:
        model.require(("faces", "identity"), "identity.gallery")  # with any other model nobody would ever be named


def _await_subscriber(publisher: Sinks, patience_s: float, stop: threading.Event) -> None:
    subscribed = publisher.await_subscriber(patience_s, stop.is_set)
    if patience_s and not subscribed and not stop.is_set():
        log.warning("nobody subscribed", waited_s=patience_s)
