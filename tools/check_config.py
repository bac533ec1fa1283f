"""``trunkline check-config``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import ConfigError
from pipeline.cluster.forwarding import check_hosts
from pipeline.settings.load import load
from pipeline.settings.redact import redact
from pipeline.sinks.zmq import check_address
from pipeline.wire.packet_sockets import check_packets_address


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
        check_packets_address(config.packets)
        for stream in config.streams:
            check_hosts(stream)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    names = [stream.name for stream in config.streams]
    forward = [redact(stream.forward) for stream in config.streams if stream.forward is not None]
    if as_json:
        where: dict[str, object] = {"forward": forward} if forward else {"publish": redact(config.publish.address)}
        typer.echo(json.dumps({"file": str(file), "streams": names} | where))
    else:
        typer.echo(f"{file}: allowed; {', '.join(names)} -> {', '.join(forward) or redact(config.publish.address)}")
