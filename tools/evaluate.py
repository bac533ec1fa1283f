"""``trunkline evaluate``: score an exported model."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ConfigError
from engines.evaluation.sets import NAMED_SETS, SetName
from engines.sizes import at_size
from engines.spec import TASKS, Precision, load_model
from engines.tasks import REGISTRY
from tools.calibrate_identity import calibrate_identity, described
from tools.compile import size_of
from tools.enroll import BackendOption
from tools.evaluate_crops import crops
from tools.evaluate_rates import rates
from tools.evaluate_studies import improvement, multi_task, recognition, smoothing
from tools.evaluate_tracking import tracking
from tools.output import json_of, make_folder, print_json, write_file

if TYPE_CHECKING:
    from engines.evaluation.bootstrap import Interval
    from engines.evaluation.report import EvaluationReport, ScoredTasks
    from engines.evaluation.truth import Truth
    from engines.spec import Model

app = typer.Typer()
app.command()(rates)
app.command()(crops)
app.command()(tracking)
app.command()(smoothing)
app.command()(recognition)
app.command("multi-task")(multi_task)
app.command()(improvement)


def _task(name: str) -> str:
    if name == "tracking":
        raise ConfigError("--task tracking is now: trunkline evaluate tracking --data DIR")
    if name not in TASKS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(TASKS)}")
    return name


ModelOption = Annotated[Path | None, typer.Option(help="Model folder: spec.json and its ONNX files.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder with the validation data.")]
ConfigOption = Annotated[
    Path | None, typer.Option(help="Training configuration whose validation sets say what DATA holds.")
]
SetOption = Annotated[
    SetName | None,
    typer.Option("--set", help="Score on this set of DATA's folders in place of the standard ones."),
]
PrecisionOption = Annotated[Precision, typer.Option(help="Arithmetic; auto leaves it to the backend.")]
FrameSizeOption = Annotated[
    str | None,
    typer.Option(help="Width x height of the frame entry, multiples of 32; default the model's own."),
]
TaskOption = Annotated[
    list[str] | None,
    typer.Option(parser=_task, metavar="TASK", help=f"Score this only, one of {', '.join(TASKS)}; repeatable."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Look at this many pictures or pairs of each set.")]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")]
OutOption = Annotated[Path | None, typer.Option(help="Write the whole report to this JSON file, too.")]
PlotsOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Draw curves and the worst pictures of each task in here, as PNG."),
]
CalibrateOption = Annotated[
    bool, typer.Option("--calibrate", help="Identity: choose the similarity from which a face is someone.")
]
FalseAcceptRateOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="--calibrate: share of strangers' tracks that may be named; default 0.01."),
]
PeopleOption = Annotated[
    int | None, typer.Option(min=1, help="--calibrate: enrolled in the gallery that it is for; default 10.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="--calibrate: write it to the model's spec.json, in place of the old one.")
]


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    model: ModelOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    named: SetOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "f32",
    frame_size: FrameSizeOption = None,
    task: TaskOption = None,
    limit: LimitOption = None,
    as_json: AsJsonOption = False,
    out: OutOption = None,
    plots: PlotsOption = None,
    calibrate: CalibrateOption = False,
    false_accept_rate: FalseAcceptRateOption = None,
    people: PeopleOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Score an exported model on validation data, the way the pipeline runs it; the commands below do something else.

    docs/evaluation.md says what every figure means. Without --config, or where the configuration has no
    [[validation_sets]], DATA has the standard layout that docs/data.md describes; further sets that it has there are
    scored, too, each by itself.

    --calibrate chooses the identity threshold on the people of DATA in place of scoring them (docs/recognition.md).

    Example: trunkline evaluate --model n --data ../data --task faces --json

    Example: trunkline evaluate --model runs/model --data DIR --task identity --calibrate --people 50 --replace
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    asked = task or []
    _check_calibrating(asked, calibrate=calibrate, of_it=(false_accept_rate, people, replace or None))
    if model is None or data is None:
        raise ConfigError(f"--{'model' if model is None else 'data'} is missing")
    _check_ready(out, plots)
    chosen = tuple(asked)
    opened, truth = _opened(model, data, config, named, chosen, limit)
    if frame_size is not None:
        opened = at_size(opened, size_of(frame_size, "--frame-size"))
    if calibrate:
        calibrate_identity(opened, truth, false_accept_rate, people, replace=replace, as_json=as_json)
        return
    # Only here: a run-time install is without what it needs, and every other verb works there.
    from engines.evaluation.report import evaluate_model, further_truths

    further = {} if named or config else further_truths(opened, data, chosen or opened.spec.network.tasks, limit)
    report = evaluate_model(
        opened,
        truth,
        tasks=chosen or None,
        backend=backend,
        precision=precision,
        limit=limit,
        plots=plots,
        sets=further,
    )
    _publish(report, opened, out, as_json=as_json)


def _refuse_options(context: typer.Context) -> None:
    """Raise ConfigError if there are options before the name of a command, which would not see them."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP"):
            raise ConfigError(f"--{name.replace('_', '-')} has no meaning before {context.invoked_subcommand}")


def _check_ready(out: Path | None, plots: Path | None) -> None:
    """Raise ConfigError unless models can be scored here, and written where that is asked for."""
    if find_spec("faster_coco_eval") is None:
        raise ConfigError(
            "evaluate: faster-coco-eval is not installed; install it with: pip install 'trunkline[train]'"
        )
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {out.parent} does not exist")
    if plots is not None:
        make_folder(plots, "--plots")


def _opened(
    model: Path, data: Path, config: Path | None, named: SetName | None, chosen: tuple[str, ...], limit: int | None
) -> "tuple[Model, Path | Truth]":
    """Return the model, and the data that it is scored on."""
    from engines.evaluation.truth import configured_truth, labelled_truth
    from engines.training.settings import load_settings

    opened = load_model(model)
    wanted = chosen or opened.spec.network.tasks
    opened.require(wanted, "evaluation")
    if named is not None and config is not None:
        raise ConfigError("--set and --config both say what to score on: leave one out")
    if named is not None:
        return opened, labelled_truth([NAMED_SETS[named]], data, limit)
    return opened, data if config is None else configured_truth(load_settings(config), data, wanted, limit)


def _publish(report: "EvaluationReport", model: "Model", out: Path | None, *, as_json: bool) -> None:
    """Write the report where that is asked for, and print it."""
    if out is not None:
        write_file(out, f"{json_of(report)}\n".encode(), "--out")
    if as_json:
        print_json(report)
        return
    _show(report)
    if report.identity is not msgspec.UNSET:
        similarity = report.thresholds.identity_similarity
        typer.echo(f"identity_similarity {similarity:.3f}: {described(model.spec.identity_calibration)}")


def _check_calibrating(asked: list[str], *, calibrate: bool, of_it: tuple[object, ...]) -> None:
    if calibrate and asked != ["identity"]:
        raise ConfigError("--calibrate needs --task identity, and no other task")
    if not calibrate and any(value is not None for value in of_it):
        raise ConfigError("--false-accept-rate, --people and --replace have no meaning without --calibrate")


def _show(report: "EvaluationReport") -> None:
    console = Console()
    table = Table("set", "task", "figure", "value", "95 % interval")
    for name, scored in {"": report, **report.sets}.items():
        for row in _rows(scored):
            table.add_row(name, *row)
    console.print(table)
    console.print(
        f"{report.model} {report.fingerprint}, {report.backend} {report.precision} on {report.device}, "
        f"{report.seconds} s" + (f", at most {report.limit} of each set" if report.limit else "")
    )
    for task in TASKS:
        scores = report.of(task)
        for reason in scores.skipped if scores is not None else ():
            console.print(f"skipped ({task}): {reason}", markup=False)


def _rows(report: "ScoredTasks") -> Iterator[tuple[str, str, str, str]]:
    """The figures of every task, and those of each source of its pictures."""
    for task in REGISTRY:
        scores = report.of(task.name)
        if scores is not None:
            values = msgspec.to_builtins(scores)
            for name in task.figures:
                yield task.name, name, _text(values[name]), _between(scores.intervals.get(name))
            for source, figures in values.get("by_source", {}).items():
                yield task.name, f"ap50 of {source}, {figures['pictures']} pictures", _text(figures["ap50"]), ""


def _between(interval: "Interval | None") -> str:
    return "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def _text(value: float | int | None) -> str:
    match value:
        case None:
            return "-"
        case int():
            return str(value)
        case _:
            return f"{value:.4f}"
