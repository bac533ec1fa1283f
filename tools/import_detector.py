"""``trunkline import``: a detector that people already have becomes a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from engines.errors import ConfigError
from engines.spec import load_model
from tools.compile import size_of
from tools.data_label import ChannelsOption, LayoutOption, NamesOption, bgr_of, layout_of, names_of


def import_model(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="ONNX file of the detector.")],
    out: Annotated[Path, typer.Argument(help="Model folder to make.")],
    beside: Annotated[
        str | None, typer.Option(help="Model folder or released model whose other tasks the folder has, too.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model; default: the file's.")] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of an input that the file leaves open; default 640x640.")
    ] = None,
    layout: LayoutOption = None,
    names: NamesOption = None,
    channels: ChannelsOption = None,
    score: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Least score of an object.")] = None,
    iou: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Most overlap of two objects of a class.")] = None,
) -> None:
    """Make a model folder of a detector: YOLOX, YOLOv5, YOLOv8 and its like, DETR, RT-DETR, NanoDet.

    It runs as ours do: model = "OUT" in a configuration. With --beside its objects and our faces, identities and scenes
    are in the same message.

    Example: trunkline import yolox_nano.onnx models/objects --beside n
    """
    from engines.detectors.importing import import_detector

    if not detector.is_file():
        raise ConfigError(f"DETECTOR {detector}: is not a file")
    made = import_detector(
        detector,
        out,
        name=name,
        beside=None if beside is None else load_model(beside),
        layout=layout_of(layout),
        names=names_of(names),
        bgr=bgr_of(channels),
        size=None if size is None else size_of(size, "--size"),
        thresholds={key: value for key, value in (("object_score", score), ("object_iou", iou)) if value is not None},
    )
    spec = made.spec
    entry = spec.entry("frame")
    typer.echo(
        f"{out}: {len(spec.objects)} classes, {entry.width}x{entry.height}, knows {', '.join(spec.network.tasks)}; "
        f'run it with model.path = "{out}"'
    )
