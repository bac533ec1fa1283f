"""``trunkline soak``: a whole Trunkline under faults, and what was found."""

import platform
import signal
import threading
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from engines.hardware import cpu
from engines.spec import load_model
from pipeline.settings.schema import ModelSettings
from tools.output import json_of, write_file
from tools.soaking.faults import FAULTS
from tools.soaking.judge import problems
from tools.soaking.pages import draw, page_of, values_of
from tools.soaking.soak import run_soak

EXIT_WORSE = 1


def soak(
    hours: Annotated[float, typer.Option(min=0.002, help="How long it goes on; 0.1 is six minutes.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Says which fault comes when.")] = 1,
    model: Annotated[str, typer.Option(help="Model folder or released model.")] = ModelSettings().path,
    links: Annotated[Literal["queue", "zmq"], typer.Option(help="Stages as threads, or as processes.")] = "zmq",
    calm: Annotated[bool, typer.Option("--calm", help="Without faults: only look at what grows.")] = False,
    save: Annotated[Path | None, typer.Option(metavar="PREFIX", help="Write PREFIX.md, .json and .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Run a whole Trunkline, break it by a seed, and say what was lost, what grew, and how soon all was well again.

    Example: trunkline soak --hours 2 --save soak

    Ctrl-C ends it after the fault that is there now, and tells what was found until then.

    Exit status: 0, everything held; 1, something did not: the page says what.
    """
    load_model(model)
    stop = _stopped_by_signal()
    found = run_soak(
        3600 * hours, seed, model, links, () if calm else FAULTS, lambda sentence: typer.echo(sentence, err=True), stop
    )
    machine = f"{cpu().name}, {cpu().usable_cores} cores, {platform.system()}"
    page = page_of([found], machine, f"{datetime.now(UTC):%Y-%m-%d}")
    if save is not None:
        write_file(save.with_suffix(".md"), page.encode(), "--save")
        write_file(save.with_suffix(".json"), json_of(values_of(found)).encode(), "--save")
        if found.samples and find_spec("matplotlib") is not None:
            write_file(save.with_suffix(".png"), draw(found), "--save")
    typer.echo(json_of(values_of(found)) if as_json else page)
    if problems(found):
        raise typer.Exit(EXIT_WORSE)


def _stopped_by_signal() -> threading.Event:
    """Return what the first SIGINT or SIGTERM sets; the second ends the process with all that it started."""
    stop = threading.Event()

    def stopped(*_: object) -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)
    return stop
