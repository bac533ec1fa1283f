"""``trunkline curve-keys``."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer
import zmq.auth

from engines.errors import ConfigError

NAME = "server"
CLIENTS = "clients"  # folder


def curve_keys(
    directory: Annotated[Path, typer.Argument(help="Where the two files go; made if it is not there.")],
    client: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make the keys of a client that may connect, in place of these.")
    ] = None,
) -> None:
    """Make the key pair of a publisher that other hosts may reach; keys that are there already are kept.

    server.key_secret is for publish.curve_secret_file and for nobody else; server.key is for every subscriber. With
    --client NAME: clients/NAME.key stays in the folder that publish.clients names; NAME.key_secret goes to the client.

    Example: trunkline curve-keys keys

    Example: trunkline curve-keys keys --client office
    """
    if client is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", client):
        raise ConfigError(f"--client is {client!r}, but must be 1 to 64 letters, digits, dots, dashes and underscores")
    owner = client or NAME
    shared = directory / (CLIENTS if client else "") / f"{owner}.key"
    for name in (f"{owner}.key", f"{owner}.key_secret", str(shared.relative_to(directory))):
        if (directory / name).exists():
            raise ConfigError(f"directory is {str(directory)!r}, but must be one without {name}: keys are not replaced")
    # The library writes with the default permissions: keep the secret from other users from its first byte.
    mask = os.umask(0o077)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        public, secret = zmq.auth.create_certificates(directory, owner)
        shared.parent.mkdir(exist_ok=True)
        Path(public).rename(shared)
    except OSError as error:
        raise ConfigError(f"directory is {str(directory)!r}, which cannot be written: {error.strerror}") from error
    finally:
        os.umask(mask)
    uses = ("publish.curve_secret_file of the publisher", "--server-key of every subscriber")
    if client is not None:
        uses = (f"--client-key of {client}, and nobody else's", "lets it in where publish.clients is this folder")
    typer.echo(f"{secret}: {uses[0]}\n{shared}: {uses[1]}")
