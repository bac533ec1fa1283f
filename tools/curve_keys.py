"""``trunkline curve-keys``."""

import os
from pathlib import Path
from typing import Annotated

import typer
import zmq.auth

from engines.errors import ConfigError

NAME = "server"


def curve_keys(
    directory: Annotated[Path, typer.Argument(help="Where the two files go; made if it is not there.")],
) -> None:
    """Make the key pair of a publisher that other hosts may reach; keys that are there already are kept.

    server.key_secret is for publish.curve_secret_file and for nobody else; server.key is for every subscriber.

    Example: trunkline curve-keys keys
    """
    for name in (f"{NAME}.key", f"{NAME}.key_secret"):
        if (directory / name).exists():
            raise ConfigError(f"directory is {str(directory)!r}, but must be one without {name}: keys are not replaced")
    # The library writes with the default permissions: keep the secret from other users from its first byte.
    mask = os.umask(0o077)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        public, secret = zmq.auth.create_certificates(directory, NAME)
    except OSError as error:
        raise ConfigError(f"directory is {str(directory)!r}, which cannot be written: {error.strerror}") from error
    finally:
        os.umask(mask)
    typer.echo(f"{secret}: publish.curve_secret_file of the publisher\n{public}: --server-key of every subscriber")
