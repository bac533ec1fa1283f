"""The page that a run serves: what it needs, and the process that serves it."""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from engines.spec import load_model
from pipeline.gallery import Gallery
from pipeline.runtime.logs import LogSettings, configure_logging, log_settings
from pipeline.service.control_socket import Controllable, ControlSocket
from pipeline.service.page_process import PageProcess
from pipeline.service.reloading import Reloaded
from pipeline.settings.schema import GALLERY, Config, EventSettings, ModelSettings, SinkSettings, WebSettings
from pipeline.sinks.store import StoreSettings
from pipeline.wire.held_folder import HeldFolder

STORE = "store"  # the kind of sink that keeps events


def make_gallery(model: str | None) -> None:
    """Make ``people.sqlite``, where it is missing and the model knows faces: people are named while it runs."""
    loaded = load_model(model or ModelSettings().path)
    if {"faces", "identity"} <= set(loaded.spec.network.tasks) and not Path(GALLERY).is_file():
        Gallery(GALLERY, loaded.fingerprint).close()


def with_events(config: Config, clips: bool) -> Config:
    """Return the same run with its events kept, with their pictures and ``clips``, and files at their own pace."""
    store = SinkSettings(kind=STORE, options=StoreSettings(clips=clips))
    return msgspec.structs.replace(
        config,
        streams=tuple(msgspec.structs.replace(stream, pace="realtime") for stream in config.streams),
        sinks=(*config.sinks, store),
        events=EventSettings(best_crops=True),
    )


def reachable(address: str) -> str:
    """Return the address at which this host reaches what listens on one, such as all of its own."""
    for everywhere in ("tcp://*:", "tcp://0.0.0.0:"):
        if address.startswith(everywhere):
            return f"tcp://127.0.0.1:{address.removeprefix(everywhere)}"
    return address


class RunPage:
    """The page of a run.

    Args:
        what: what ``trunkline run`` was given.
        config: what is run.
        address: HOST:PORT to serve on; None: as the configuration says.
        packets: whether the run sends packets, which moving pictures need.

    Raises:
        ModuleNotFoundError: the extra ``web`` is not installed.
    """

    def __init__(self, what: list[str], config: Config, address: str | None, packets: bool = True) -> None:
        if importlib.util.find_spec("litestar") is None:
            raise ModuleNotFoundError("No module named 'litestar'", name="litestar")
        # Only this user may read what cameras see.
        self._folder = HeldFolder("page")
        self._packets = packets
        self._what, self._config, self._address = what, self.with_packets(config), address
        self._process: PageProcess | None = None
        self._control = Path(self._folder.name) / "control"
        self._socket: ControlSocket | None = None
        self._log = Path(self._folder.name) / "log"
        configure_logging(dataclasses.replace(log_settings() or LogSettings(), file=self._log))

    def with_packets(self, config: Config) -> Config:
        """Return the same run with its packets, if there are any, sent to where the page reads them."""
        if not self._packets:
            return config
        address = config.packets.address or f"ipc://{self._folder.name}/packets"
        return msgspec.structs.replace(config, packets=msgspec.structs.replace(config.packets, address=address))

    def check(self) -> None:
        """Raise ConfigError where the page cannot be served."""
        from pipeline.service.web.place import check_place  # it needs the extra "web"

        settings = self._config.web or WebSettings()
        check_place(settings if self._address is None else msgspec.structs.replace(settings, address=self._address))

    def start(self, results: str, control: Controllable, reload: Callable[[], Reloaded] | None) -> None:
        """Serve what is heard at an address, and let the page change the run.

        Args:
            results: the address.
            control: of the run.
            reload: reads the configuration again; None: there is no file of it.
        """
        self._socket = ControlSocket(self._control, control, reload)
        self._process = PageProcess(self._command(results))
        self._process.start()

    def stop(self) -> None:
        """Serve no longer."""
        if self._process is not None:
            self._process.stop()
        if self._socket is not None:
            self._socket.close()
        configure_logging(dataclasses.replace(log_settings() or LogSettings(), file=None))
        self._folder.cleanup()

    def _command(self, results: str) -> list[str]:
        logs = log_settings()
        told = [] if logs is None else ["--log-level", logs.level, *(["--log-json"] if logs.as_json else [])]
        file = self._what if Path(self._what[0]).suffix.lower() == ".toml" else []
        options = {
            "--results": reachable(results),
            "--address": self._address,
            "--gallery": self._config.identity.gallery,
            "--model": self._config.model.path,
            "--packets": self._config.packets.address,
            "--log": str(self._log),
            "--run": str(os.getpid()),
            "--control": str(self._control),
        }
        given = [part for option, value in options.items() if value is not None for part in (option, value)]
        return [sys.executable, "-m", "tools.main", *told, "view", *file, *given]
