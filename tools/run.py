"""``trunkline run``: the pipeline on the streams of a configuration."""

import json
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from engines.errors import ConfigError
from engines.files import write_private
from pipeline.cluster.control import ClusterControl
from pipeline.cluster.forwarding import run_forwarding
from pipeline.cluster.ray import run_on_ray
from pipeline.cluster.shard import Runner
from pipeline.runtime.summary import Summary
from pipeline.service.control import Control
from pipeline.service.limits import set_limits
from pipeline.service.reloading import Reloaded, reload
from pipeline.service.run import run as run_pipeline
from pipeline.settings.defaults import config_of, with_default_gallery
from pipeline.settings.load import load
from pipeline.settings.schema import Config
from tools.page import RunPage, make_gallery, with_events

EXIT_PART: Final = 3  # of a file only a part could be read
EXIT_NOTHING: Final = 4  # of a file nothing could be

PAGE_S: Final = 20.0  # that the first frame of sources waits for their page
METRICS: Final = "127.0.0.1:9464"  # the port that OpenTelemetry's exporters for Prometheus have


WhatArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG|SOURCE",
        help="A configuration (.toml; see configs/); or files, addresses and cameras' indices, with defaults.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(help="Of sources: model folder or released model; a configuration names its own.")
]
SecondsOption = Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds.")]
WaitOption = Annotated[
    float, typer.Option(min=0.0, metavar="SECONDS", help="Hold the first frame back until somebody subscribes.")
]
SummaryOption = Annotated[Path | None, typer.Option(help="Write the run's books to this JSON file.")]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Publish beyond this host without keys.")]
MetricsOption = Annotated[
    bool, typer.Option("--metrics", help=f"Serve metrics for Prometheus, at {METRICS} unless configured.")
]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print the run's books as JSON.")]
WebOption = Annotated[
    bool, typer.Option("--web", help="Serve the page, too; of sources, also keep events and make a gallery.")
]
WebAddressOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Serve it there; beyond this host: with TLS and login.")
]
RayOption = Annotated[
    str | None,
    typer.Option(metavar="auto|local|HOST:PORT", help="Place the streams on the nodes of this cluster of Ray."),
]


def run(
    what: WhatArgument,
    model: ModelOption = None,
    seconds: SecondsOption = None,
    wait_for_subscriber: WaitOption = 0.0,
    summary: SummaryOption = None,
    insecure: InsecureOption = False,
    metrics: MetricsOption = False,
    as_json: AsJsonOption = False,
    web: WebOption = False,
    web_address: WebAddressOption = None,
    ray: RayOption = None,
) -> None:
    """Run every stream until all have ended, or until ctrl-C; with sources and --web, the page stays until ctrl-C.

    Example: trunkline run rtsp://camera.local/stream clip.mp4 0

    Example: trunkline run configs/camera.toml

    Example: trunkline run rtsp://camera.local/stream --web

    Exit status: 0, all files were read to their ends, or the run was stopped; 2, something was refused; 3, of a file
    only a part could be read; 4, of one nothing could be. What was not read, and why, is in the summary.

    SIGHUP, or trunkline reload, reads the configuration again and takes over the streams that were added, changed and
    removed, thresholds and inference rates. With --ray both take over streams, and spread them over the nodes.
    """
    web = web or web_address is not None
    if web and ray is None and not _is_file(what):
        make_gallery(model)
    loaded = _wanted(what, insecure, metrics, model)
    if web and not _is_file(what):
        loaded = with_events(loaded, clips=ray is None)
    page = RunPage(what, loaded, web_address, packets=ray is None) if web or loaded.web is not None else None

    def again() -> Config:
        config = _wanted(what, insecure, metrics)
        return config if page is None else page.with_packets(config)

    to_look_at = page is not None and not _is_file(what)
    stop = threading.Event()
    try:
        if page is not None:
            page.check()
        finished = _run(
            loaded if page is None else page.with_packets(loaded),
            page,
            again if _is_file(what) else None,
            seconds,
            max(wait_for_subscriber, PAGE_S) if to_look_at else wait_for_subscriber,
            ray,
            stop,
        )
        text = json.dumps(finished.to_json(), indent=2)
        typer.echo(text if as_json else _table(finished))
        if summary:
            _write(summary, text)
        if to_look_at and seconds is None and not stop.is_set():
            typer.echo("all sources have ended; the page stays until ctrl-C", err=True)
            stop.wait()
    finally:
        if page is not None:
            page.stop()
    outcomes = {end.read for end in finished.ends.values()}
    if status := EXIT_NOTHING if "nothing" in outcomes else EXIT_PART if "part" in outcomes else 0:
        raise typer.Exit(status)


def _run(
    config: Config,
    page: RunPage | None,
    again: Callable[[], Config] | None,
    seconds: float | None,
    wait_s: float,
    ray: str | None,
    stop: threading.Event,
) -> Summary:
    """Run until all streams have ended, a signal says so, or ``seconds`` are over.

    SIGHUP takes over ``again()``, where there is one, and else says so, too, unless ``nohup`` has it ignored.
    """
    set_limits()
    alone, shards = Control(), ClusterControl(config)
    control = alone if ray is None else shards
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _stop(stop))
    if again is not None:
        signal.signal(signal.SIGHUP, lambda *_: _in_thread(reloaded))
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: _stop(stop))
    timer = threading.Timer(seconds or 0.0, stop.set)
    forwards = ray is None and config.streams[0].forward is not None

    def reloaded() -> Reloaded:
        assert again is not None
        report = reload(again, config, control)
        if ray is not None:
            shards.spread()
        return report

    def started(address: str) -> None:
        with suppress(OSError):  # as with the log: who reads it may have gone
            typer.echo(f"{'forwarding to' if forwards else 'publishing on'} {address}", err=True)
        if page is not None:
            page.start(address, control, None if again is None else reloaded)
        if seconds is not None:
            timer.start()

    try:
        if forwards:
            return run_forwarding(config, stop, started)
        if ray is None:
            return run_pipeline(config, stop=stop, wait_for_subscriber_s=wait_s, started=started, control=alone)
        runner = Runner(run_pipeline, Control)
        return run_on_ray(config, ray, runner, stop=stop, wait_for_subscriber_s=wait_s, started=started, control=shards)
    finally:
        timer.cancel()


def _is_file(what: list[str]) -> bool:
    """Whether it is a configuration."""
    return Path(what[0]).suffix.lower() == ".toml"


def _wanted(what: list[str], insecure: bool, metrics: bool, model: str | None = None) -> Config:
    loaded = _config(what, model)
    if insecure:
        loaded = msgspec.structs.replace(loaded, publish=msgspec.structs.replace(loaded.publish, insecure=True))
    if metrics and loaded.streams[0].forward is not None:
        raise ConfigError("--metrics is there, but must be left out where streams are forwarded")
    if metrics and loaded.metrics.address is None:
        loaded = msgspec.structs.replace(loaded, metrics=msgspec.structs.replace(loaded.metrics, address=METRICS))
    return loaded


def _in_thread(reading: Callable[[], object]) -> None:
    """Read the configuration again, in a thread: what is removed may take a while. What is refused is logged."""

    def read() -> None:
        with suppress(ConfigError):
            reading()

    threading.Thread(target=read, daemon=True).start()


def _config(what: list[str], model: str | None) -> Config:
    """The configuration that was named, or that of the sources; with the gallery that is there."""
    files = [name for name in what if Path(name).suffix.lower() == ".toml"]
    if files and len(what) > 1:
        raise ConfigError(
            f"{files[0]}: is a configuration, which must be the only argument of run; name the sources in it"
        )
    if files and model is not None:
        raise ConfigError(f"--model is {model!r}, but {files[0]} is a configuration: say it there as model.path")
    wanted = load(files[0]) if files else config_of(what, model)
    config = with_default_gallery(wanted)
    if config.identity.gallery not in (None, wanted.identity.gallery):
        typer.echo(f"names from {config.identity.gallery}", err=True)
    return config


def _stop(stop: threading.Event) -> None:
    """The first signal lets frames on their way finish, the second does not."""
    if stop.is_set():
        raise KeyboardInterrupt
    stop.set()


def _write(path: Path, text: str) -> None:
    try:
        write_private(path, f"{text}\n".encode())
    except OSError as error:
        raise ConfigError(f"--summary is {str(path)!r}, which cannot be written: {error.strerror}") from error


def _table(finished: Summary) -> str:
    lines = []
    for name, account in finished.streams.items():
        drops = ", ".join(f"{count} {cause}" for cause, count in account.dropped.items()) or "none"
        done = "published" if finished.backend else "forwarded"
        lines.append(f"{name}: captured {account.captured}, {done} {account.published}, dropped {drops}")
        if name in finished.ends and finished.ends[name].read != "all":
            end = finished.ends[name]
            lines.append(f"{name}: {'only a part' if end.read == 'part' else 'nothing'} could be read: {end.cause}")
    for name, count in (finished.left_out or {}).items():
        lines.append(f"{name}: recording left out {count} frame{'' if count == 1 else 's'}")
    for name, counts in finished.sinks.items():
        if counts.lost:
            causes = ", ".join(f"{count} {cause}" for cause, count in counts.lost.items())
            lines.append(f"sink {name}: sent {counts.sent} messages, lost {causes}")
    if total := finished.stages_ms.get("total"):
        times = f"p50 {total['p50']} ms, p99 {total['p99']} ms"
        lines.append(f"latency: {times}, on {finished.backend} {finished.precision}")
    return "\n".join(lines)
