"""``trunkline evaluate``: score an exported model."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ConfigError
from engines.evaluation.data import Task
from engines.spec import Backend, Precision, load_model

if TYPE_CHECKING:
    from engines.evaluation.report import Report

HEADLINES = {  # of each task: the figures of the table
    Task.OBJECTS: ("ap", "ap50", "person_ap50", "pictures", "boxes", "ignored"),
    Task.FACES: ("ap50", "nme", "nme_missed", "pictures", "boxes", "nme_pictures"),
    Task.SCENE: ("top1", "top5", "ece", "pictures"),
    Task.IDENTITY: ("accuracy", "accuracy_std", "accuracy_end_to_end", "accuracy_end_to_end_std"),
}


def evaluate(
    model: Annotated[Path, typer.Option(help="Model folder: spec.json and its ONNX files.")],
    data: Annotated[Path, typer.Option(help="Folder with the validation data.")],
    backend: Annotated[Literal["auto", Backend], typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic; auto leaves it to the backend.")] = "f32",
    task: Annotated[list[Task] | None, typer.Option(help="Score this task only; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at this many pictures or pairs of each set.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the whole report to this JSON file, too.")] = None,
) -> None:
    """Score an exported model on validation data, the way the pipeline runs it.

    Example: trunkline evaluate --model engines/zoo/n --data ../data --task faces --json
    """
    if find_spec("faster_coco_eval") is None:
        raise ConfigError("evaluate: faster-coco-eval is not installed; install it with: pip install -e '.[train]'")
    # Only here: a run-time install is without that package, and every other verb works there.
    from engines.evaluation.report import evaluate_model

    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {out.parent} does not exist")
    report = evaluate_model(
        load_model(model),
        data,
        backend=backend,
        precision=precision,
        tasks=task or tuple(Task),
        limit=limit,
    )
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    if out is not None:
        _write(out, text)
    if as_json:
        sys.stdout.write(text.decode() + "\n")
    else:
        _show(report)


def _write(out: Path, text: bytes) -> None:
    try:
        out.write_bytes(text + b"\n")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error


def _show(report: "Report") -> None:
    console = Console()
    table = Table("task", "figure", "value")
    for task, name, value in _rows(report):
        table.add_row(task, name, value)
    console.print(table)
    console.print(
        f"{report.model} {report.fingerprint}, {report.backend} {report.precision} on {report.device}, "
        f"{report.seconds} s" + (f", at most {report.limit} of each set" if report.limit else "")
    )
    for task in HEADLINES:
        scores = getattr(report, task)
        for reason in scores.skipped if scores is not msgspec.UNSET else ():
            console.print(f"skipped ({task}): {reason}", markup=False)


def _rows(report: "Report") -> Iterator[tuple[str, str, str]]:
    for task, names in HEADLINES.items():
        scores = getattr(report, task)
        for name in names if scores is not msgspec.UNSET else ():
            yield task, name, _text(getattr(scores, name))


def _text(value: float | int | None) -> str:
    match value:
        case None:
            return "-"
        case int():
            return str(value)
        case _:
            return f"{value:.4f}"
