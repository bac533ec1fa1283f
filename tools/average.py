"""``trunkline average``: the mean of a run's weights and of those of another run or a model."""

from pathlib import Path
from typing import Annotated

import typer

from engines.errors import BackendUnavailable, ConfigError
from engines.spec import load_model
from engines.zoo import model_folder

CheckpointArgument = Annotated[Path, typer.Argument(help="checkpoint.pt or milestone.pt of a training run.")]
OtherArgument = Annotated[
    str, typer.Argument(help="Another run's file; or a model folder, or a released model's name, that it began with.")
]
OutOption = Annotated[Path, typer.Option(help="The checkpoint to write.")]
ShareOption = Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the first one's weights.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the training data, to measure the normalisation anew (with a model); default: its mean, too."
    ),
]


def average(
    checkpoint: CheckpointArgument,
    other: OtherArgument,
    out: OutOption,
    share: ShareOption = 0.5,
    data: DataOption = None,
) -> None:
    """Write the mean of the weights of a run and of another one or a model, to be compiled or trained on.

    What a run forgot comes back in part, at the cost of part of what it learnt.

    Example: trunkline average runs/s/milestone.pt s --share 0.6 --data DIR --out mean.pt
    """
    try:
        from engines.compiling.averaging import average as mean_of
        from engines.compiling.averaging import normalised
        from engines.training.checkpoint import load_checkpoint, save_checkpoint
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            "average needs PyTorch, which is not installed: pip install 'trunkline[train]'"
        ) from error
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    trained = load_checkpoint(checkpoint)
    if Path(other).is_file():
        if data is not None:
            raise ConfigError(f"--data {data}: the normalisation of two runs is averaged; leave it out")
        mean = mean_of(trained, load_checkpoint(Path(other)), share)
    else:
        model = load_model(model_folder(Path(other)))
        mean = mean_of(trained, model, share)
        mean = mean if data is None else normalised(mean, model.spec, data)
    save_checkpoint(mean, out)
    typer.echo(f"{out}: {share:g} of {checkpoint}, {1 - share:g} of {other}; trunkline compile {out} makes it a model")
