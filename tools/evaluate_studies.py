"""``trunkline evaluate smoothing | recognition | multi-task | improvement``: studies, each written as a page."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import track as progress

from engines.errors import BackendUnavailable, ConfigError
from engines.spec import load_model
from pipeline.settings.schema import ModelSettings
from tools.progress import progress_bar
from tools.train import device_named, stop_signal

if TYPE_CHECKING:
    from engines.study.runs import Study

RESULTS = Path("docs/results")

OutOption = Annotated[Path, typer.Option(help="Folder of the page: Markdown, picture and raw results.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>; auto takes CUDA if there is one.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]


def smoothing(out: OutOption = RESULTS, as_json: AsJsonOption = False) -> None:
    """Compare the smoothing of labels and scenes with none, a majority vote and a plain average, on simulated noise.

    Example: trunkline evaluate smoothing
    """
    require("evaluate smoothing", "matplotlib")
    from pipeline.settings.schema import SmoothingSettings
    from tools.smoothing.comparison import STEPS, SmoothingStudy, compare
    from tools.smoothing.page import write_page

    measured = tuple(progress(compare(), "smoothing", total=STEPS, console=Console(stderr=True)))
    found = SmoothingStudy(settings=SmoothingSettings(), measured=measured)
    _tell(found, write_page(found, f"trunkline evaluate smoothing --out {out}", out), as_json=as_json)


def recognition(
    data: Annotated[Path, typer.Option(help="Folder with the data; people are in its folder face_recognition.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path(ModelSettings().path),
    split: Annotated[
        Literal["train", "val"], typer.Option(help="People: val, or train, whom the network has learned from.")
    ] = "val",
    out: OutOption = RESULTS,
    as_json: AsJsonOption = False,
) -> None:
    """Compare the pooled tracks of the pipeline with single frames and with a plain mean, on video frames.

    Example: trunkline evaluate recognition --data DIR
    """
    require("evaluate recognition", "matplotlib")
    opened = load_model(model)
    opened.require(["identity"], "evaluate recognition")
    from tools.recognition.crops import read_crops
    from tools.recognition.page import write_page
    from tools.recognition.study import STEPS, run

    steps = run(read_crops(opened, data, split), opened, split)
    *_, found = progress(steps, "recognising", total=STEPS, console=Console(stderr=True))
    assert found is not None  # the last of them is the study
    command = f"trunkline evaluate recognition --data DATA --model {model} --split {split} --out {out}"
    _tell(found, write_page(found, command, out), as_json=as_json)


def improvement(
    config: Annotated[Path, typer.Argument(help="Configuration of the plain classifier that is improved (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the data.")],
    model: Annotated[Path, typer.Option(help="Model folder whose scene task is compared.")],
    out: OutOption = RESULTS,
    work: Annotated[Path, typer.Option(help="Folder where finished runs are kept.")] = Path("runs/improvement"),
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Say what each change of a plain classifier brings, and what its classes get as a task of the joint network.

    An interrupted study goes on where it was: the runs that are finished are kept in the folder --work.

    Example: trunkline evaluate improvement configs/training/plain-cnn.toml --data DIR --model n
    """
    require("evaluate improvement", "torch")
    import torch

    from engines.study.classifier_settings import load_classifier_settings
    from engines.study.improvement import SEEDS, ImprovementStudy
    from engines.study.improvement_page import Improvement, write_page
    from engines.study.joint import measure_joint

    if threads:
        torch.set_num_threads(threads)
    base, released = load_classifier_settings(config), load_model(model)
    study = ImprovementStudy(base, data, work, SEEDS, device_named(device))
    joint = measure_joint(released, base.validation, data)  # first: a model that does not fit is refused at once
    if not follow(study):
        raise KeyboardInterrupt
    found = Improvement(
        command=f"trunkline evaluate improvement {config} --data DATA --model {model} --out {out}",
        train=base.train.folders,
        validation=base.validation.folders,
        labels=study.labels,
        seeds=SEEDS,
        steps={step.name: step.change for step in study.steps},
        joint=joint,
        runs=tuple(study.outcomes),
    )
    _tell(found, write_page(found, out), as_json=as_json)


def multi_task(
    config: Annotated[Path, typer.Argument(help="Joint training configuration (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the data.")],
    out: OutOption = RESULTS,
    work: Annotated[Path, typer.Option(help="Folder where runs are kept.")] = Path("runs/multi-task"),
    seeds: Annotated[str, typer.Option(help="Of every run, with commas.")] = "0,1,2",
    steps: Annotated[int | None, typer.Option(min=1, help="Of every run; default: those of the configuration.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Compare the network of a joint configuration with one single-task network for each of its tasks.

    An interrupted comparison goes on where it was: runs, finished or not, are kept in the folder --work.

    Example: trunkline evaluate multi-task configs/training/n.toml --data DIR --steps 2500
    """
    require("evaluate multi-task", "torch")
    import torch

    from engines.study.comparison import TaskComparison, shortened
    from engines.study.comparison_page import summarise, write_page
    from engines.training.settings import load_settings

    if threads:
        torch.set_num_threads(threads)
    chosen, settings = _seeds(seeds), load_settings(config)
    short = shortened(settings, steps or settings.steps)
    study = TaskComparison(short, data, work, chosen, device_named(device))
    if not follow(study):
        raise KeyboardInterrupt
    command = f"trunkline evaluate multi-task {config} --data DATA --seeds {seeds} --steps {short.steps} --out {out}"
    found = summarise(command, settings, study.outcomes)
    _tell(found, write_page(found, out), as_json=as_json)


def follow(study: "Study[Any, Any]") -> bool:
    """Do what is missing of a study, with a bar on stderr; whether all is done, or the user ended it early."""
    total, stop = sum(run.steps for run in study.runs), stop_signal()
    with progress_bar() as bar:
        task = bar.add_task("steps of all runs", total=total, completed=study.steps_done, told="")
        for now in study.run(stop):
            told = (
                f"{now.name}, {now.number}, step {now.step} of {now.steps}; {now.done} of {len(study.runs)} runs done"
            )
            bar.update(task, completed=study.steps_done + now.step, told=told)
    return study.over


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--seeds must be whole numbers with commas, as in 0,1,2, got {text!r}") from None
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds must differ from each other, got {text!r}")
    return seeds


def require(verb: str, *modules: str) -> None:
    """Raise BackendUnavailable unless the packages of the extra ``train`` are there that a verb needs."""
    for module in modules:
        if find_spec(module) is None:
            raise BackendUnavailable(f"{verb} needs {module}, which is not installed: pip install 'trunkline[train]'")


def _tell(found: msgspec.Struct, page: Path, *, as_json: bool) -> None:
    typer.echo(msgspec.json.encode(found) if as_json else page)
