"""``trunkline plan``: which machine some streams need, from a minute's measurement on this one."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ConfigError
from engines.hardware import usable_cores
from pipeline.settings.schema import ModelSettings
from tools.output import print_json
from tools.planning.checking import CheckedNumber, measure_numbers
from tools.planning.checking import check as check_numbers
from tools.planning.costs import SIZES, FrameCosts, measure_costs
from tools.planning.planned import Plan, PlannedLoad, plan


def plan_machine(
    streams: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")],
    size: Annotated[str, typer.Option(help=f"Of what is decoded: {', '.join(SIZES)}.")] = "1080p",
    fps: Annotated[float, typer.Option(min=0.1, max=1000.0, help="Frames a second of each.")] = 30.0,
    inferred: Annotated[
        float | None, typer.Option(min=0.1, help="Of those, how many the network sees (inference.fps); default: all.")
    ] = None,
    crops: Annotated[
        int, typer.Option(min=0, help="Parts of each of those that the network sees besides (inference.crops).")
    ] = 0,
    p99: Annotated[float, typer.Option(min=1.0, help="Latency that 99 of 100 frames keep, milliseconds.")] = 100.0,
    model: Annotated[str, typer.Option(help="A released model's name, or a model folder.")] = ModelSettings().path,
    seconds: Annotated[float, typer.Option(min=3.0, help="How long this machine is measured.")] = 60.0,
    check: Annotated[
        bool, typer.Option("--check", help="Then run 1, 2, 4 ... of the streams here, and hold the plan against that.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Say which machine some streams need, and what saturates first, in cores like those of this one (docs/plan.md).

    Example: trunkline plan --streams 30 --size 1080p --fps 30

    Example: trunkline plan --streams 30 --size 360p --fps 30 --inferred 5    (with a sub-stream, detect_source)
    """
    if check and crops:
        raise ConfigError("--crops is there, but must be left out with --check: the made clip has nothing to look for")
    if size not in SIZES:
        raise ConfigError(f"--size is {size!r}, but must be one of {', '.join(SIZES)}")
    load = PlannedLoad(streams, fps, min(inferred or fps, fps), p99, crops)
    with Console(stderr=True).status("") as status:
        costs = measure_costs(size, model, seconds, status.update)
        rows = measure_numbers(costs, load, model, seconds / streams.bit_length(), status.update) if check else ()
    planned, checked = plan(costs, load, usable_cores()), check_numbers(costs, load, usable_cores(), rows)
    if as_json:
        print_json({"load": load, "costs_ms": costs, "plan": planned, "checked": checked})
    else:
        show(load, costs, planned, Console())
        show_checked(checked, Console())


def show(load: PlannedLoad, costs: FrameCosts, planned: Plan, console: Console) -> None:
    """Print a plan."""
    table = Table("", "ms a frame", "cores busy", title="What the streams cost")
    for name, cost in (
        ("decoding", costs.decode),
        ("the network", costs.looking(load.crops)),
        ("everything else", costs.rest),
    ):
        table.add_row(name, f"{cost:.2f}", f"{planned.demand[name]:.2f}")
    console.print(table)
    what = f"{load.streams} streams of {costs.size} at {load.fps:g} frames/s, {load.inferred:g} of them inferred"
    if load.crops:
        what += f" with {load.crops} crop{'' if load.crops == 1 else 's'} each"
    if planned.cores is None:
        console.print(f"{what}: no number of cores like these is enough; first to saturate: {planned.first}")
    else:
        console.print(
            f"{what}: {planned.cores} cores like these, {planned.busy:.0%} busy, p99 {planned.p99_ms:g} ms; "
            f"first to saturate: {planned.first}"
        )
    console.print(f"This machine, {planned.here_cores} cores: {planned.here_streams} such streams")


def show_checked(checked: Sequence[CheckedNumber], console: Console) -> None:
    """Print what the plan said of each number of streams, and what they used; nothing where none ran."""
    if not checked:
        return
    table = Table("streams", "cores planned", "used", "error", "p99 ms planned", "measured", "dropped")
    for each in checked:
        planned = "" if each.p99_planned_ms is None else f"{each.p99_planned_ms:g}"
        busy = f"{each.cores_planned:.2f}", f"{each.cores_used:.2f}", f"{each.error:+.0%}"
        table.add_row(str(each.streams), *busy, planned, f"{each.p99_ms:g}", str(each.dropped))
    console.print(table)
