"""``trunkline crossval``: train and score a configuration fold by fold, and compare settings."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from engines.errors import ConfigError
from tools.evaluate_studies import follow, require

EXIT_UNFINISHED = 1


def crossval(
    config: Annotated[Path, typer.Argument(help="Training configuration (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the training data.")],
    folds: Annotated[int, typer.Option(min=2, help="How many parts the data is split into.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder of folds and page; default runs/<name>-crossval.")] = None,
    vary: Annotated[
        list[str] | None, typer.Option(metavar="KEY=A,B", help="Compare these values of a key; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    stop_at: Annotated[int | None, typer.Option(min=1, help="End each run at this step.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>; auto takes CUDA if there is one.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train on all folds but one, score the exported network on that one, and say how far the figures spread.

    Pictures of one person, of one video or of nearly the same thing are in one fold. An interrupted cross-validation
    goes on where it was, by the same command.

    Example: trunkline crossval configs/training/n.toml --data DIR --folds 5 --vary network.activation=relu,silu
    """
    require("crossval", "torch", "faster_coco_eval")
    import torch

    from engines.study.crossval import CrossValidation, choices_of, declared_variants
    from engines.study.crossval_page import CrossValidated, differences, summarise, write_page
    from engines.training.settings import read_toml
    from tools.train import device_named

    if threads:
        torch.set_num_threads(threads)
    place = device_named(device)
    chosen = [choices_of(text) for text in vary or ()]
    if len(dict(chosen)) < len(chosen):
        raise ConfigError(f"--vary must name each key once, got {', '.join(key for key, _ in chosen)}")
    variants = declared_variants(read_toml(config), str(config), dict(chosen))
    folder = out or Path("runs") / f"{next(iter(variants.values())).name}-crossval"
    with Console(stderr=True).status("reading and splitting the data"):
        work = CrossValidation(variants, data, folder / "folds", folds=folds, seed=seed, stop_at=stop_at, device=place)
    if not follow(work):
        typer.echo(f"{len(work.outcomes)} of {folds * len(variants)} folds are done; the same command goes on")
        raise typer.Exit(EXIT_UNFINISHED)
    summaries = summarise(work.outcomes)
    found = CrossValidated(
        command=_command(config, folds, vary or (), seed, stop_at),
        config=str(config),
        folds=folds,
        seed=seed,
        stop_at=stop_at,
        variants=tuple(variants),
        summaries=summaries,
        differences=differences(summaries, folds),
        outcomes=tuple(work.outcomes),
    )
    page = write_page(found, folder)
    typer.echo(msgspec.json.encode(found) if as_json else page)


def _command(config: Path, folds: int, vary: "list[str] | tuple[()]", seed: int, stop_at: int | None) -> str:
    options = [f"--vary {text}" for text in vary] + ([f"--stop-at {stop_at}"] if stop_at else [])
    return " ".join([f"trunkline crossval {config} --data DATA --folds {folds} --seed {seed}", *options])
