"""``trunkline data label``: label pictures by a detector."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import ConfigError
from tools.output import make_folder

if TYPE_CHECKING:
    from engines.arrays import Pixels
    from engines.detectors import Found, LayoutName

LayoutOption = Annotated[
    str | None, typer.Option(help="What the ONNX file takes and gives; default: found by its shapes.")
]
NamesOption = Annotated[Path | None, typer.Option(help="File of the detector's class names, one a line.")]
ChannelsOption = Annotated[str | None, typer.Option(help="rgb or bgr, where the detector is unlike its kind.")]
Detect = Callable[["Pixels"], "Found"]


def label(
    images: Annotated[Path, typer.Argument(help="Folder of pictures, searched with its sub-folders.")],
    out: Annotated[Path, typer.Argument(help="COCO JSON file to write; a part that is there is gone on with.")],
    detector: Annotated[Path, typer.Option(help="An ONNX detector, or a model folder or released model of ours.")],
    layout: LayoutOption = None,
    names: NamesOption = None,
    channels: ChannelsOption = None,
    side: Annotated[int | None, typer.Option(min=32, help="Of an input that the ONNX file leaves open.")] = None,
    score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score of a box.")] = 0.15,
    iou: Annotated[float, typer.Option(min=0.0, max=1.0, help="Largest overlap of two boxes of a class.")] = 0.65,
    limit: Annotated[int, typer.Option(min=1, help="Most boxes of a picture.")] = 60,
    threads: Annotated[int, typer.Option(min=0, help="0: as many as the engine likes.")] = 0,
) -> None:
    """Draw boxes with scores around what a detector finds: labels to train with, never truth.

    Example: trunkline data label photos photos.json --detector yolox_nano.onnx
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from engines.detectors import label_folder

    if not images.is_dir():
        raise ConfigError(f"IMAGES {images}: is not a folder")
    make_folder(out.parent, "OUT")
    options = layout, names, channels, side, iou, limit, threads
    with (
        _opened(detector, options, score) as (detect, known, what),
        Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar,
    ):
        task = bar.add_task("labelling", total=None)
        content = label_folder(
            detect,
            known,
            images,
            out,
            f"machine-made by {what}, score {score:g} or more: for training only, never as truth",
            told=lambda done, of: bar.update(task, completed=done, total=of),
            unread=partial(bar.console.log, markup=False),
        )
    typer.echo(f"{out}: {len(content.annotations)} boxes in {len(content.images)} pictures")


@contextmanager
def _opened(
    file: Path, options: tuple[str | None, Path | None, str | None, int | None, float, int, int], score: float
) -> Iterator[tuple[Detect, tuple[str, ...], str]]:
    """What finds boxes, the names of its classes, and what it is called."""
    if file.suffix.lower() != ".onnx":
        from engines.detectors.own import OwnDetector

        with OwnDetector(file, score) as own:
            yield own.detect, own.names, f"{file.name} {own.fingerprint}"
        return
    from engines.detectors import open_detector

    layout, names, channels, side, iou, limit, threads = options
    opened = open_detector(
        file,
        layout=layout_of(layout),
        names=names_of(names),
        bgr=bgr_of(channels),
        size=None if side is None else (side, side),
        threads=threads,
    )
    yield partial(opened.detect, score=score, iou=iou, limit=limit), opened.names, file.name


def layout_of(name: str | None) -> "LayoutName | None":
    """Return the layout that --layout names; None: to be found."""
    from engines.detectors.layout import LAYOUTS

    found = next((each for each in LAYOUTS if each == name), None)
    if name is not None and found is None:
        raise ConfigError(f"--layout must be one of {', '.join(LAYOUTS)}, got {name!r}")
    return found


def bgr_of(channels: str | None) -> bool | None:
    """Return whether --channels says that blue comes first; None: as the detector's kind has it."""
    if channels not in (None, "rgb", "bgr"):
        raise ConfigError(f"--channels must be rgb or bgr, got {channels!r}")
    return None if channels is None else channels == "bgr"


def names_of(file: Path | None) -> list[str]:
    """Return the class names of the file of --names, one a line."""
    from engines.data.reading import read_lines

    return [] if file is None else [line.strip() for line in read_lines(file)]
