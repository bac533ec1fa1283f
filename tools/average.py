"""``trunkline average``: the mean of a run's weights and of those that it began with."""

from pathlib import Path
from typing import Annotated

import typer

from engines.errors import BackendUnavailable, ConfigError
from engines.spec import load_model
from engines.zoo import model_folder

CheckpointArgument = Annotated[Path, typer.Argument(help="checkpoint.pt or milestone.pt of a training run.")]
ModelArgument = Annotated[Path, typer.Argument(help="Model folder, or a released model's name, that it began with.")]
DataOption = Annotated[Path, typer.Option(help="Folder with the training data, for the normalisation.")]
OutOption = Annotated[Path, typer.Option(help="The checkpoint to write.")]
ShareOption = Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the run's weights.")]


def average(
    checkpoint: CheckpointArgument, model: ModelArgument, data: DataOption, out: OutOption, share: ShareOption = 0.5
) -> None:
    """Write the mean of the weights of a run and of the model that it began with, to be compiled or trained on.

    What a run forgot comes back in part, at the cost of part of what it learnt.

    Example: trunkline average runs/s/milestone.pt s --share 0.6 --data DIR --out mean.pt
    """
    try:
        from engines.compiling.averaging import average as mean_of
        from engines.training.checkpoint import load_checkpoint, save_checkpoint
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            "average needs PyTorch, which is not installed: pip install 'trunkline[train]'"
        ) from error
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    save_checkpoint(mean_of(load_checkpoint(checkpoint), load_model(model_folder(model)), share, data), out)
    typer.echo(f"{out}: {share:g} of {checkpoint}, {1 - share:g} of {model}; trunkline compile {out} makes it a model")
