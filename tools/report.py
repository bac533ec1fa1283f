"""``trunkline report``: studies, each done and written as pages by one command."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from engines.errors import BackendUnavailable
from tools.progress import progress_bar
from tools.report_multi_task import multi_task
from tools.report_recognition import recognition
from tools.report_smoothing import smoothing
from tools.report_tracking import tracking

if TYPE_CHECKING:
    from engines.study.improvement import ImprovementStudy

app = typer.Typer(
    no_args_is_help=True,
    help="Do a study, and write its pages: Markdown, pictures and raw results.",
    epilog="Example: trunkline report improvement --config configs/training/plain-cnn.toml --data DIR --model n",
)


app.command("multi-task")(multi_task)
app.command("recognition")(recognition)
app.command("smoothing")(smoothing)
app.command("tracking")(tracking)


@app.callback()
def report() -> None:
    """Do a study, and write its pages: Markdown, pictures and raw results."""


@app.command()
def improvement(
    config: Annotated[Path, typer.Option(help="Configuration of the plain classifier that is improved (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the data.")],
    model: Annotated[Path, typer.Option(help="Model folder whose scene task is compared.")],
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs/results"),
    work: Annotated[Path, typer.Option(help="Folder where finished runs are kept.")] = Path("runs/improvement"),
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>; auto takes CUDA if there is one.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Say what each change of a plain classifier brings, and what its classes get as a task of the joint network.

    An interrupted study goes on where it was: the runs that are finished are kept in the folder --work.

    Example: trunkline report improvement --config configs/training/plain-cnn.toml --data DIR --model n
    """
    if find_spec("torch") is None:
        raise BackendUnavailable("report needs PyTorch, which is not installed: pip install 'trunkline[train]'")
    import torch

    from engines.spec import load_model
    from engines.study.classifier_settings import load_classifier_settings
    from engines.study.improvement import SEEDS, ImprovementStudy
    from engines.study.improvement_page import Improvement, summarise, write_pages
    from engines.study.joint import measure_joint
    from tools.train import device_named

    if threads:
        torch.set_num_threads(threads)
    base, released = load_classifier_settings(config), load_model(model)
    study = ImprovementStudy(base, data, work, SEEDS, device_named(device))
    joint = measure_joint(released, base.validation, data)  # first: a model that does not fit is refused at once
    _follow(study)
    found = Improvement(
        command=f"trunkline report improvement --config {config} --data DATA --model {model} --out {out}",
        train=base.train.folders,
        validation=base.validation.folders,
        labels=study.labels,
        seeds=SEEDS,
        summaries=summarise(study.steps, study.outcomes),
        joint=joint,
        runs=tuple(study.outcomes),
    )
    page = write_pages(found, out)
    typer.echo(msgspec.json.encode(found) if as_json else page)


def _follow(study: "ImprovementStudy") -> None:
    with progress_bar() as bar:
        task = bar.add_task("training, runs", total=study.runs, completed=len(study.outcomes), told="")
        for now in study.run():
            told = f"{now.step}, seed {now.seed}, epoch {now.epoch} of {now.epochs}"
            bar.update(task, completed=now.done + (now.epoch == now.epochs), told=told)
