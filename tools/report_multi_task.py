"""``trunkline report multi-task``: one network for all tasks against one for each."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from engines.errors import BackendUnavailable, ConfigError
from tools.progress import progress_bar
from tools.train import device_named, stop_signal

if TYPE_CHECKING:
    import torch

    from engines.study.comparison import Sets, TaskComparison
    from engines.training.settings import TrainingSettings

HOURS = 5.0


def multi_task(
    config: Annotated[Path, typer.Argument(help="Joint training configuration (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the data.")],
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs/results"),
    work: Annotated[Path, typer.Option(help="Folder where runs are kept.")] = Path("runs/multi-task"),
    seeds: Annotated[str, typer.Option(help="Of every run, with commas.")] = "0,1,2",
    steps: Annotated[int | None, typer.Option(min=1, help="Of every run; default: what fits into --hours.")] = None,
    hours: Annotated[float | None, typer.Option(min=0.0, help=f"For all runs together; default {HOURS:g}.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>; auto takes CUDA if there is one.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
    only_pages: Annotated[bool, typer.Option("--only-pages", help="Write the pages of finished runs again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare the network of a joint configuration with one single-task network for each of its tasks.

    An interrupted comparison goes on where it was: runs, finished or not, are kept in the folder --work.

    Example: trunkline report multi-task configs/training/n.toml --data DIR --hours 5
    """
    if find_spec("torch") is None:
        raise BackendUnavailable("report needs PyTorch, which is not installed: pip install 'trunkline[train]'")
    import torch

    from engines.study.comparison import Sets, TaskComparison, shortened
    from engines.study.comparison_page import write_pages
    from engines.study.comparison_results import summarise
    from engines.study.pace import pace_of
    from engines.study.speed import speed_of
    from engines.training.settings import load_settings

    if threads:
        torch.set_num_threads(threads)
    chosen = _seeds(seeds)
    if steps is not None and hours is not None:
        raise ConfigError(f"--steps is {steps} and --hours {hours:g}: give one of them")
    settings, place = load_settings(config), device_named(device)
    sets = Sets(settings, data)
    if steps is None:
        hours = HOURS if hours is None else hours
        steps = _fitting_steps(settings, sets, work, hours, chosen, place, only_pages=only_pages)
    comparison = TaskComparison(shortened(settings, steps), sets, work, chosen, place)
    missing = len(comparison.runs) - len(comparison.outcomes)
    if missing and only_pages:
        raise ConfigError(
            f"--work {work}: {missing} of {len(comparison.runs)} runs are not finished; "
            "the same command without --only-pages does them"
        )
    _follow(comparison)
    budget = f"--steps {steps}" if hours is None else f"--hours {hours:g}"
    found = summarise(
        f"trunkline report multi-task {config} --data DATA --seeds {seeds} {budget} --out {out}",
        settings,
        hours,
        comparison.outcomes,
        speed_of(comparison.models(), work),
        pace_of(shortened(settings, steps), sets, work, place),
    )
    page = write_pages(found, out)
    typer.echo(msgspec.json.encode(found) if as_json else page)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--seeds must be whole numbers with commas, as in 0,1,2, got {text!r}") from None
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds must differ from each other, got {text!r}")
    return seeds


def _fitting_steps(
    settings: "TrainingSettings",
    sets: "Sets",
    work: Path,
    hours: float,
    seeds: tuple[int, ...],
    device: "torch.device",
    *,
    only_pages: bool,
) -> int:
    from engines.study.budget import budget_key, fit_budget, kept_budget

    budget = kept_budget(work, budget_key(settings, hours, seeds))
    if budget is None:
        if only_pages:
            raise ConfigError(f"--work {work}: has no runs of --hours {hours:g} with these seeds and this config")
        console = Console(stderr=True)
        budget = fit_budget(settings, sets, work, hours, seeds, device, console.log)
        console.log(f"{budget.steps} steps a run fit into {hours:g} h")
    return budget.steps


def _follow(comparison: "TaskComparison") -> None:
    """Do what is missing, with a bar on stderr; KeyboardInterrupt where the user ended that early."""
    if len(comparison.outcomes) == len(comparison.runs):
        return
    stop = stop_signal()
    with progress_bar() as bar:
        steps = comparison.runs[0].settings.steps
        total, done = steps * len(comparison.runs), steps * len(comparison.outcomes)
        task = bar.add_task("training, steps", total=total, completed=done, told="")
        for now in comparison.run(stop):
            told = f"{now.name}, seed {now.seed}, step {now.step} of {now.steps}"
            bar.update(task, completed=now.done * now.steps + now.step, told=told)
            # Scoring has a bar of its own.
            if now.measuring:
                bar.stop()
            else:
                bar.start()
    if len(comparison.outcomes) < len(comparison.runs):
        raise KeyboardInterrupt
