"""Who may talk to a socket with a CURVE key: the keys in a folder (ZAP, RFC 27 of ZeroMQ)."""

from pathlib import Path
from typing import Any, Final, Self

import structlog
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from engines.errors import ConfigError
from pipeline.wire.curve import KEY_ERRORS

MAX_TOLD: Final = 100  # keys that were refused are told so often, or who tries could fill the disk

log = structlog.get_logger()


class AllowedKeys:
    """The public keys in a folder, read again whenever somebody comes: who is taken out is not let in again.

    Args:
        folder: with a file ``NAME.key`` for each peer, as ``trunkline curve-keys --client`` makes them.
        own: the file of the key of who listens: who has its secret may connect, such as the page of a run.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, folder: str | Path, own: str | Path | None = None) -> None:
        self._folder = Path(folder).expanduser()
        self._own = own
        self._told: set[bytes] = set()
        if not self._folder.is_dir():
            raise ConfigError(f"clients is {str(folder)!r}, but must be a folder with public keys")

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a key, in Z85, may connect; what ZAP asks."""
        allowed = key in self._keys()
        if not allowed and key not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(key)
            log.warning("a key that is not allowed was refused", key=key.decode(errors="replace"))
        return allowed

    def _keys(self) -> set[bytes]:
        found = set()
        for file in (*self._folder.glob("*.key"), *([] if self._own is None else [Path(self._own)])):
            try:
                found.add(zmq.auth.load_certificate(file)[0])
            except KEY_ERRORS as error:
                log.warning("a key cannot be read, so its owner is refused", file=file.name, cause=str(error))
        return found


class KeyCheck:
    """Asks :class:`AllowedKeys` about everyone who connects to the sockets of a context, until it is left.

    Args:
        context: of the sockets; made before they bind.
        folder: of the keys; None: whoever has the server's public key may connect.
        own: as of :class:`AllowedKeys`.
    """

    def __init__(self, context: "zmq.Context[Any]", folder: str | Path | None, own: str | Path | None = None) -> None:
        self._authenticator: ThreadAuthenticator | None = None
        if folder is not None:
            keys = AllowedKeys(folder, own)
            self._authenticator = ThreadAuthenticator(context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback("*", keys)

    def close(self) -> None:
        """Stop asking; may be called twice."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
