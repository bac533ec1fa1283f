"""What Prometheus reads of a run, at its own small listener: ``/metrics``; docs/metrics.md.

Nothing is counted for it: each scrape asks the run for what it knows, so that frames pay nothing. Labels are names of
streams, sinks, processes and GPUs that are there now, and causes, steps and links, of which there are a few.
"""

import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Self, get_args
from wsgiref.types import StartResponse, WSGIEnvironment

import pynvml
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from engines.errors import ConfigError
from pipeline.runtime.reading import Reading
from pipeline.runtime.ring import CAUSES
from pipeline.runtime.streams import Streams
from pipeline.service.metrics_protobuf import CONTENT_TYPE, Histograms, wanted, written
from pipeline.settings.schema import Config, MetricsSettings
from pipeline.sinks.books import Lost
from pipeline.wire.curve import is_loopback, parse_tcp

# What there is from the start: a counter that comes with its first count has no increase that anybody sees.
NONE_DROPPED: Final = dict.fromkeys(CAUSES, 0)
NONE_LOST: Final = dict.fromkeys(get_args(Lost), 0)
PROCESS_METRICS: Final = {  # of the client's, by ours
    "process_cpu_seconds": "trunkline_process_cpu_seconds",
    "process_resident_memory_bytes": "trunkline_process_resident_memory_bytes",
    "process_open_fds": "trunkline_process_open_files",
}


class MetricsServer:
    """Serves what a run tells of itself, while it is attached to one.

    Raises:
        ConfigError: the address is not allowed or taken.
    """

    def __init__(self, config: Config) -> None:
        host, port = _address(config.metrics)
        registry = CollectorRegistry()
        self._collector = RunCollector(config)
        registry.register(self._collector)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigError(
                f"metrics.address is {config.metrics.address!r}, which cannot be used: {error.strerror or error}"
            ) from error
        text = self._server.get_app()
        assert text is not None  # start_http_server has set it

        def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            if not (environ["PATH_INFO"] == "/metrics" and wanted(environ.get("HTTP_ACCEPT", ""))):
                return text(environ, start)
            start("200 OK", [("Content-Type", CONTENT_TYPE)])
            return [written(registry.collect())]

        self._server.set_app(answer)

    @property
    def port(self) -> int:
        """Where it listens: the real one where the settings say 0."""
        return int(self._server.server_port)

    @contextmanager
    def of(self, run: Streams) -> Iterator[None]:
        """Serve this run's figures meanwhile."""
        self._collector.run = run
        try:
            yield
        finally:
            self._collector.run = None

    def close(self) -> None:
        """Serve nothing any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _address(settings: MetricsSettings) -> tuple[str, int]:
    """Host and port to listen at.

    Raises:
        ConfigError: it is none, or one that others reach though that was not allowed.
    """
    written = settings.address or ""
    tcp = parse_tcp(f"tcp://{written}")
    if tcp is None or not tcp[1].isdecimal():
        raise ConfigError(f"metrics.address is {written!r}, but must be HOST:PORT")
    if not (is_loopback(tcp[0]) or settings.insecure):
        raise ConfigError(
            f"metrics.address is {written!r}, which other hosts can reach: it needs metrics.insecure = true, since "
            "whoever reaches it reads the names of streams and all figures"
        )
    return tcp[0].strip("[]"), int(tcp[1])


class RunCollector(Collector):
    """Makes metrics of what a run tells when it is asked."""

    def __init__(self, config: Config) -> None:
        self.run: Streams | None = None
        self._disks = _disks_of(config)
        self._gpus = Gpus()
        self._collecting = threading.Lock()  # two may scrape at once

    def describe(self) -> Iterable[Metric]:
        """Nothing: whoever registers need not collect to know the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Each metric of the run, the machine's part in it included."""
        run = self.run
        reading = Reading() if run is None else run.reading()
        with self._collecting:
            yield from _of_streams(reading)
            yield from _of_times(reading)
            yield from _of_sinks(reading)
            yield from _of_processes({"main": os.getpid(), **reading.processes})
            yield from _of_disks(self._disks)
            yield from self._gpus.collect()


def _of_streams(reading: Reading) -> Iterator[Metric]:
    frames = CounterMetricFamily(
        "trunkline_frames", "Frames that left the pipeline, by what became of them.", labels=("stream", "outcome")
    )
    captured = CounterMetricFamily("trunkline_frames_captured", "Frames that the source gave.", labels=("stream",))
    flying = GaugeMetricFamily("trunkline_frames_in_flight", "Frames from capture to message.", labels=("stream",))
    up = GaugeMetricFamily(
        "trunkline_stream_up", "Whether the stream gives frames; absent once it has ended.", labels=("stream",)
    )
    back = CounterMetricFamily(
        "trunkline_stream_reconnects", "How often the stream came up after it was down.", labels=("stream",)
    )
    for name, stream in reading.streams.items():
        counts, state = stream.counts, stream.state
        frames.add_metric((name, "published"), counts.published)
        for cause, count in (NONE_DROPPED | counts.dropped).items():
            frames.add_metric((name, cause), count)
        captured.add_metric((name,), counts.captured)
        flying.add_metric((name,), counts.in_flight)
        back.add_metric((name,), state.reconnects)
        if state.state != "ended":
            up.add_metric((name,), state.state == "up")
    waiting = GaugeMetricFamily("trunkline_queue_frames", "Frames that wait between two stages.", labels=("queue",))
    for link, count in reading.waiting.items():
        waiting.add_metric((link,), count)
    yield from (frames, captured, flying, up, back, waiting)


def _of_times(reading: Reading) -> Iterator[Metric]:
    latency = Histograms(
        "trunkline_latency_seconds", "How long published frames took, by step; total: from capture.", ("stage",)
    )
    for stage, histogram in reading.times.stages.items():
        latency.add((stage,), histogram)
    engine = Histograms("trunkline_engine_seconds", "How long the engine took for a batch.")
    engine.add((), reading.times.engine)
    skipped = CounterMetricFamily("trunkline_frames_skipped", "Published frames that the network was not shown.")
    skipped.add_metric((), reading.times.skipped)
    yield from (latency, engine, skipped)


def _of_sinks(reading: Reading) -> Iterator[Metric]:
    sent = CounterMetricFamily("trunkline_sink_sent", "Messages that a sink has sent.", labels=("sink",))
    lost = CounterMetricFamily("trunkline_sink_lost", "Messages that a sink has lost.", labels=("sink", "cause"))
    waiting = GaugeMetricFamily("trunkline_sink_queue_messages", "Messages in a sink's queue.", labels=("sink",))
    for name, counts in reading.sinks.items():
        sent.add_metric((name,), counts.sent)
        waiting.add_metric((name,), counts.waiting)
        for cause, count in (NONE_LOST | counts.lost).items():
            lost.add_metric((name, cause), count)
    yield from (sent, lost, waiting)


def _of_processes(processes: dict[str, int]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for name, pid in processes.items():
        for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            if metric.name in PROCESS_METRICS:
                ours = PROCESS_METRICS[metric.name]
                family = families.setdefault(ours, Metric(ours, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name.replace(metric.name, ours), {"process": name}, sample.value)
    yield from families.values()


def _disks_of(config: Config) -> dict[str, Path]:
    """The folders that a run writes to, by the name of the sink."""
    folders = {} if config.record.directory is None else {"record": config.record.directory}
    for sink in config.sinks:
        if sink.kind == "store":
            folders[sink.shown_name] = sink.options.directory
    return {name: Path(folder).expanduser() for name, folder in folders.items()}


def _of_disks(disks: dict[str, Path]) -> Iterator[Metric]:
    size = GaugeMetricFamily("trunkline_store_size_bytes", "What a sink keeps on the disk.", labels=("sink",))
    free = GaugeMetricFamily("trunkline_disk_free_bytes", "What is free on the disk of a sink.", labels=("sink",))
    for name, folder in disks.items():
        try:
            free.add_metric((name,), shutil.disk_usage(folder).free)
            size.add_metric((name,), sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()))
        except OSError:
            continue  # not made yet, or a file went meanwhile: the next scrape tells
    yield from (size, free)


class Gpus:
    """The NVIDIA GPUs of the machine, as their driver's library tells; none where there is no driver."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            self._handles = []

    def collect(self) -> Iterator[Metric]:
        """How busy each is; what a GPU does not tell is absent."""
        if not self._handles:
            return
        busy = GaugeMetricFamily("trunkline_gpu_utilization_ratio", "Share of time it was busy.", labels=("gpu",))
        decoder = GaugeMetricFamily("trunkline_gpu_decoder_utilization_ratio", "Of its decoder.", labels=("gpu",))
        used = GaugeMetricFamily("trunkline_gpu_memory_used_bytes", "Memory in use.", labels=("gpu",))
        total = GaugeMetricFamily("trunkline_gpu_memory_total_bytes", "Memory there is.", labels=("gpu",))
        for number, handle in enumerate(self._handles):
            label = (str(number),)
            with suppress(pynvml.NVMLError):
                busy.add_metric(label, pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            with suppress(pynvml.NVMLError):
                decoder.add_metric(label, pynvml.nvmlDeviceGetDecoderUtilization(handle)[0] / 100)
            with suppress(pynvml.NVMLError):
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                used.add_metric(label, memory.used)
                total.add_metric(label, memory.total)
        yield from (busy, decoder, used, total)
