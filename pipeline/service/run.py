"""The whole way of a frame, top to bottom; the only file that knows the order of the stages."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import structlog

from engines.spec import Model, load_model
from pipeline.cluster.forwarding import run_forwarding
from pipeline.events.zones import zone_counters_of
from pipeline.gallery.gallery import Gallery
from pipeline.inference.stage import open_entry
from pipeline.runtime.processes import run_processes
from pipeline.runtime.summary import Summary
from pipeline.runtime.threads import Pipeline
from pipeline.settings.schema import Config
from pipeline.sinks.fan_out import Sinks
from pipeline.sinks.segments import SegmentFolder
from pipeline.sinks.video import Recorder
from pipeline.sources.capture import Capture, check_source

log = structlog.get_logger()


def run(
    config: Config,
    *,
    stop: threading.Event,
    wait_for_subscriber_s: float = 0.0,
    started: Callable[[str], None] = lambda address: None,
    source: Capture | None = None,
) -> Summary:
    """Run every stream of a configuration until all have ended or ``stop`` is set.

    Args:
        config: what to run.
        stop: set it to end the run; frames on their way are finished.
        wait_for_subscriber_s: hold the first frame back until somebody listens, for so long at most.
        started: called with the address of the results socket once everything is open; or with those to which frames
            are forwarded, where this host does nothing else.
        source: what gives the frames of each stream, where stages are threads;
            None: :func:`pipeline.sources.capture.capture`.

    Raises:
        TrunklineError: something in the configuration cannot be had; nothing has run then. Or StageError: a stage
            crashed too often.
    """
    for stream in config.streams:
        check_source(stream)
    if config.streams[0].forward is not None:
        return run_forwarding(config, stop, started)
    model = load_model(config.model.path)
    _check_tasks(config, model)
    if config.record.directory is not None:
        SegmentFolder(config.record).check()
    if config.links == "zmq":
        return run_processes(config, model, stop, wait_for_subscriber_s, started)
    with ExitStack() as opened:
        publisher = opened.enter_context(Sinks(config))
        frame_engine = opened.enter_context(open_entry(model, "frame", config.model))
        face_engine = gallery = recorder = None
        if config.identity.gallery is not None:
            gallery = opened.enter_context(Gallery(config.identity.gallery, model.fingerprint))
            face_engine = opened.enter_context(open_entry(model, "face", config.model))
        if config.record.directory is not None:
            # The thread that it runs in closes it.
            recorder = Recorder(config.record, model.spec.objects, model.spec.scenes, config.streams)
        started(publisher.address)
        _await_subscriber(publisher, wait_for_subscriber_s, stop)
        pipeline = Pipeline(config, model, publisher, frame_engine, face_engine, gallery, recorder, stop, source)
        summary = pipeline.run()
    return replace(summary, sinks=publisher.counts)


def _check_tasks(config: Config, model: Model) -> None:
    """Raise ModelError, or ConfigError for a label, where the model has not what the configuration asks for."""
    model.spec.entry("frame")
    zone_counters_of(config, model.spec.objects)
    if config.identity.gallery is not None:
        model.require(("faces", "identity"), "identity.gallery")  # with any other model nobody would ever be named


def _await_subscriber(publisher: Sinks, patience_s: float, stop: threading.Event) -> None:
    subscribed = publisher.await_subscriber(patience_s, stop.is_set)
    if patience_s and not subscribed and not stop.is_set():
        log.warning("nobody subscribed", waited_s=patience_s)
