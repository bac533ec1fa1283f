"""``trunkline run``: the pipeline on the streams of a configuration."""

import json
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from engines.errors import ConfigError
from pipeline.cluster.forwarding import run_forwarding
from pipeline.runtime.summary import Summary
from pipeline.service.control import Control
from pipeline.service.reloading import reload
from pipeline.service.run import run as run_pipeline
from pipeline.settings.defaults import config_of, with_default_gallery
from pipeline.settings.load import load
from pipeline.settings.schema import Config

METRICS: Final = "127.0.0.1:9464"  # the port that OpenTelemetry's exporters for Prometheus have


def run(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG|SOURCE",
            help="A configuration (.toml; see configs/); or files, addresses and cameras' indices, with defaults.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="Of sources: model folder or released model; a configuration names its own.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds.")] = None,
    wait_for_subscriber: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Hold the first frame back until somebody subscribes.")
    ] = 0.0,
    summary: Annotated[Path | None, typer.Option(help="Write the run's books to this JSON file.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Publish beyond this host without keys.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help=f"Serve metrics for Prometheus, at {METRICS} unless configured.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's books as JSON.")] = False,
) -> None:
    """Run every stream until all have ended, or until ctrl-C.

    Example: trunkline run rtsp://camera.local/stream clip.mp4 0

    Example: trunkline run configs/camera.toml

    SIGHUP reads the configuration again and takes over the streams that were added, changed and removed.
    """
    loaded = _wanted(what, insecure, metrics, model)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _stop(stop))
    control = Control()
    if hasattr(signal, "SIGHUP") and Path(what[0]).suffix.lower() == ".toml":
        signal.signal(signal.SIGHUP, lambda *_: _reload(what, insecure, metrics, loaded, control))
    timer = threading.Timer(seconds or 0.0, stop.set)

    def started(address: str) -> None:
        typer.echo(f"{'publishing on' if loaded.streams[0].forward is None else 'forwarding to'} {address}", err=True)
        if seconds is not None:
            timer.start()

    try:
        if loaded.streams[0].forward is None:
            finished = run_pipeline(
                loaded, stop=stop, wait_for_subscriber_s=wait_for_subscriber, started=started, control=control
            )
        else:
            finished = run_forwarding(loaded, stop, started)
    finally:
        timer.cancel()
    text = json.dumps(finished.to_json(), indent=2)
    typer.echo(text if as_json else _table(finished))
    if summary:
        _write(summary, text)


def _wanted(what: list[str], insecure: bool, metrics: bool, model: str | None = None) -> Config:
    loaded = _config(what, model)
    if insecure:
        loaded = msgspec.structs.replace(loaded, publish=msgspec.structs.replace(loaded.publish, insecure=True))
    if metrics and loaded.streams[0].forward is not None:
        raise ConfigError("--metrics is there, but must be left out where streams are forwarded")
    if metrics and loaded.metrics.address is None:
        loaded = msgspec.structs.replace(loaded, metrics=msgspec.structs.replace(loaded.metrics, address=METRICS))
    return loaded


def _reload(what: list[str], insecure: bool, metrics: bool, running: Config, control: Control) -> None:
    """Read the configuration again, in a thread: what is removed may take a while."""
    read = partial(_wanted, what, insecure, metrics)
    threading.Thread(target=reload, args=(read, running, control), daemon=True).start()


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
        path.write_text(text + "\n")
    except OSError as error:
        raise ConfigError(f"--summary is {str(path)!r}, which cannot be written: {error.strerror}") from error


def _table(finished: Summary) -> str:
    lines = []
    for name, account in finished.streams.items():
        drops = ", ".join(f"{count} {cause}" for cause, count in account.dropped.items()) or "none"
        done = "published" if finished.backend else "forwarded"
        lines.append(f"{name}: captured {account.captured}, {done} {account.published}, dropped {drops}")
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
