"""``trunkline train``: joint training from a configuration."""

import csv
from pathlib import Path
from typing import Annotated

import typer

LOG_EVERY = 20


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the training data.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")] = False,
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
        from engines.errors import BackendUnavailable

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
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = out or Path("runs") / settings.name
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
        task = bar.add_task(f"training {settings.name} on {device}", total=settings.steps, losses="reading the data")
        steps = run(
            settings, data, folder, resume=resume, device=torch.device(device), stop_at=stop_at, opened=bar.console.log
        )
        for now in steps:
            totals = {k.removesuffix(".total"): v for k, v in now.losses.items() if k.endswith(".total")}
            bar.update(task, completed=now.step, losses=" ".join(f"{k} {v:.2f}" for k, v in sorted(totals.items())))
            if now.step % LOG_EVERY == 0:
                for name, value in now.losses.items():
                    writer.writerow([now.step, f"{now.seconds:.0f}", f"{now.learning_rate:.6f}", name, f"{value:.4f}"])
                file.flush()
    typer.echo(f"step {settings.steps if stop_at is None else stop_at}: {folder / 'checkpoint.pt'}")
