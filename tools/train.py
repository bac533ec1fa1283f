"""``trunkline train``: joint training from a configuration."""

import csv
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import BackendUnavailable, ConfigError, one_line

if TYPE_CHECKING:
    import torch

LOG_EVERY = 20


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the training data.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")] = False,
    init: Annotated[Path | None, typer.Option(help="Begin with the weights of this checkpoint of another run.")] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:<index>; auto takes CUDA where there is one.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
    stop_at: Annotated[int | None, typer.Option(min=1, help="Stop at this step with a checkpoint.")] = None,
) -> None:
    """Train the network on all tasks that the data labels.

    Example: trunkline train configs/training/n.toml --data DIR --resume
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise BackendUnavailable("train needs PyTorch, which is not installed: pip install -e .[train]") from error
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from engines.training.loop import train as run
    from engines.training.settings import load_settings

    settings = load_settings(config)
    if threads:
        torch.set_num_threads(threads)
    place = _device(device)
    folder = out or Path("runs") / settings.name
    if not resume and (folder / "checkpoint.pt").exists():
        raise ConfigError(f"--out {folder}: holds a run already; add --resume to go on with it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.csv"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    fresh = not (resume and log.is_file())
    with (
        Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[losses]}")) as bar,
        log.open("w" if fresh else "a", newline="") as file,
    ):
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "seconds", "learning_rate", "name", "value"])
        task = bar.add_task(f"training {settings.name} on {place}", total=settings.steps, losses="reading the data")
        steps = run(
            settings, data, folder, resume=resume, init=init, device=place, stop_at=stop_at, opened=bar.console.log
        )
        interrupted = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: _interrupt(interrupted))
        done = 0
        for now in steps:
            done = now.step
            totals = {k.removesuffix(".total"): v for k, v in now.losses.items() if k.endswith(".total")}
            bar.update(task, completed=now.step, losses=" ".join(f"{k} {v:.2f}" for k, v in sorted(totals.items())))
            if now.step % LOG_EVERY == 0:
                for name, value in now.losses.items():
                    writer.writerow([now.step, f"{now.seconds:.0f}", f"{now.learning_rate:.6f}", name, f"{value:.4f}"])
                file.flush()
            if interrupted.is_set():
                steps.close()
                raise KeyboardInterrupt
    typer.echo(f"step {done}: {folder / 'checkpoint.pt'}" if done else f"{folder} has all its steps already")


def _interrupt(interrupted: threading.Event) -> None:
    """The first ctrl-C lets the step finish and saves it, the second does not."""
    if interrupted.is_set():
        raise KeyboardInterrupt
    interrupted.set()


def _device(name: str) -> "torch.device":
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without CUDA
        raise ConfigError(f"--device is {name!r}, which cannot be used here: {one_line(error)}") from error
