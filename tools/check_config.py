"""``trunkline check-config``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import ConfigError
from pipeline.config import load
from pipeline.publish import check_address


def check_config(
    file: Annotated[Path, typer.Argument(help="A TOML configuration, such as configs/camera.toml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Say whether a configuration is allowed; exit status 2 and the reason if not. Opens no stream and no model.

    Example: trunkline check-config configs/site.toml
    """
    config = load(file)
    try:
        check_address(config.publish)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    names = [stream.name for stream in config.streams]
    if as_json:
        typer.echo(json.dumps({"file": str(file), "streams": names, "publish": config.publish.address}))
    else:
        typer.echo(f"{file}: allowed; {', '.join(names)} -> {config.publish.address}")
