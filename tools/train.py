"""``trunkline train``: joint training from a configuration."""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from engines.errors import BackendUnavailable, ConfigError, one_line
from engines.spec import load_model
from tools.progress import progress_bar
from tools.train_classifier import train_classifier

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from engines.training.checkpoint import Checkpoint
    from engines.training.curves import CurveLog
    from engines.training.loop import Progress as Now
    from engines.training.settings import TrainingSettings

LOG_EVERY = 20


ConfigOption = Annotated[Path, typer.Argument(help="Training configuration (TOML).")]
DataOption = Annotated[Path, typer.Option(help="Folder with the training data.")]
OutOption = Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name>.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")]
InitOption = Annotated[Path | None, typer.Option(help="Begin with the weights of a checkpoint or model folder.")]
AtStepOption = Annotated[
    int, typer.Option(min=0, help="Where in the schedule to go on, with --init MODEL, if the checkpoint is lost.")
]
CacheOption = Annotated[Path | None, typer.Option(help="Folder to map decoded pictures from, where memory is short.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>; auto takes CUDA where there is one.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")]
StopAtOption = Annotated[int | None, typer.Option(min=1, help="Stop at this step with a checkpoint.")]
TeacherOption = Annotated[
    list[Path] | None, typer.Option(help="Model folder whose word fills in what the data lacks; may be repeated.")
]
PriceOption = Annotated[float, typer.Option(min=0.0, help="Of an hour of this machine; the cost is shown.")]


def train(
    config: ConfigOption,
    data: DataOption,
    out: OutOption = None,
    resume: ResumeOption = False,
    init: InitOption = None,
    at_step: AtStepOption = 0,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    stop_at: StopAtOption = None,
    teacher: TeacherOption = None,
    price: PriceOption = 0.0,
) -> None:
    """Train the network on all tasks that the data labels.

    Example: trunkline train configs/training/n.toml --data DIR --resume

    Several processes: torchrun --nproc-per-node 2 -m tools.main train configs/training/n.toml --data DIR
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            "train needs PyTorch, which is not installed: pip install 'trunkline[train]'"
        ) from error
    from engines.study.classifier_settings import is_classifier
    from engines.training.loop import CHECKPOINT
    from engines.training.settings import load_settings

    if threads:
        torch.set_num_threads(threads)
    place = device_named(device)
    if is_classifier(config):
        if resume or init or stop_at:
            raise ConfigError(f"{config}: a classifier is trained in one go, without --resume, --init and --stop-at")
        return train_classifier(config, data, out, place)
    settings = load_settings(config)
    folder = out or Path("runs") / settings.name
    if not resume and (folder / CHECKPOINT).exists():
        raise ConfigError(f"--out {folder}: holds a run already; add --resume to go on with it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    session = _Session(settings, data, folder, place, price, resume=resume)
    session.run(
        init=init,
        at_step=at_step,
        cache=cache,
        stop_at=stop_at,
        teachers=[load_model(folder) for folder in teacher or ()],
    )


@dataclass(frozen=True)
class _Session:
    """A training run as a person sees it: a bar, lines, a log of its curves and their picture."""

    settings: "TrainingSettings"
    data: Path
    folder: Path
    place: "torch.device"
    price: float  # of an hour of a process
    _: KW_ONLY
    resume: bool  # go on with the log that is there

    def run(self, **options: Any) -> None:
        """Train to the end, or until somebody stops it.

        Args:
            options: of :func:`engines.training.loop.train`.
        """
        from engines.training.curves import LOG, PICTURE, CurveLog, plot_log
        from engines.training.loop import BEST, CHECKPOINT
        from engines.training.loop import train as run
        from engines.training.processes import joined_processes

        now = None
        settings, log = self.settings, self.folder / LOG
        with joined_processes(self.place) as processes, progress_bar(Console(), shown=processes.leads) as bar:
            steps = run(
                settings,
                self.data,
                self.folder,
                resume=self.resume,
                device=self.place,
                processes=processes,
                validate=self._validate if settings.validation else None,
                stop=stop_signal(),
                opened=bar.console.log if processes.leads else lambda _: None,
                **options,
            )
            count = f", {processes.count} processes" if processes.count > 1 else ""
            title = f"training {settings.name} on {self.place}{count}"
            task = bar.add_task(title, total=settings.steps, told="reading the data")
            with log.open("a" if self.resume else "w", newline="") if processes.leads else nullcontext() as file:
                curves = CurveLog(file) if file else None
                for now in steps:
                    if curves is not None:
                        bar.update(task, completed=now.step, told=_told(now, self.price, processes.count))
                        self._log(now, curves, bar)
        if not processes.leads:
            return
        if now is None:
            typer.echo(f"{self.folder} has all its steps already")
            return
        plot_log(log, self.folder / PICTURE)
        best = f", best scores: {self.folder / BEST}" if (self.folder / BEST).is_file() else ""
        typer.echo(f"step {now.step}, {_spent(now, self.price, processes.count)}: {self.folder / CHECKPOINT}{best}")

    def _log(self, now: "Now", curves: "CurveLog", bar: "Progress") -> None:
        """Write a step's losses now and then, and its scores where it has some."""
        from engines.training.curves import LOG, PICTURE, plot_log

        if now.step % LOG_EVERY == 0:
            curves.write(now, now.losses)
        if now.scores:
            curves.write(now, {f"score.{name}": score for name, score in now.scores.items()})
            bar.console.log(f"step {now.step}: " + _listed(now.scores))
            plot_log(self.folder / LOG, self.folder / PICTURE)

    def _validate(self, saved: "Checkpoint") -> dict[str, float]:
        from engines.compiling.validation import validation_scores

        assert saved.settings.validation is not None
        return validation_scores(saved, self.data, saved.settings.validation)


def _listed(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in sorted(values.items()))


def _told(now: "Now", price: float, processes: int) -> str:
    totals = {k.removesuffix(".total"): v for k, v in now.losses.items() if k.endswith(".total")}
    return f"{_spent(now, price, processes)} {_listed(totals)}"


def _spent(now: "Now", price: float, processes: int) -> str:
    """Hours so far, of all processes together, and what they cost."""
    hours = now.seconds / 3600 * processes
    return f"{hours:.2f} h" + (f", {hours * price:.2f} spent" if price else "")


def stop_signal() -> Callable[[], bool]:
    """Whether the user, or the system, has asked for the end: the first signal lets the step finish, the second not."""
    asked = threading.Event()

    def handle(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, handle)
    return asked.is_set


def device_named(name: str) -> "torch.device":
    """The device that ``--device`` names.

    Raises:
        ConfigError: it cannot be used here.
    """
    import torch

    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without CUDA
        raise ConfigError(f"--device is {name!r}, which cannot be used here: {one_line(error)}") from error
