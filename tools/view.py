"""``trunkline view``: the page of a run, in a browser."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engines.errors import ConfigError
from pipeline.service.web.server import serve
from pipeline.service.web.site import Places
from pipeline.settings.load import load
from pipeline.settings.schema import GALLERY, Config, ModelSettings, PublishSettings, WebSettings
from tools.doctor import examine
from tools.page import reachable

STORE = "events"


def view(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="The run's configuration, which says all of the below.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="HOST:PORT to serve on; beyond this host: with login.")] = None,
    results: Annotated[str | None, typer.Option(help="Address of the run's results socket.")] = None,
    server_key: Annotated[str | None, typer.Option(help="The run's public CURVE key, where it uses keys.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the event store.")] = None,
    gallery: Annotated[Path | None, typer.Option(help="File of the gallery.")] = None,
    accounts: Annotated[str | None, typer.Option(help="File of users, tokens and what was done.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder or released model of the run.")] = None,
    packets: Annotated[
        str | None, typer.Option(help="Address of the run's packets, for live video: packets.address.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="The run's log file, whose end administrators see.")] = None,
    run: Annotated[int | None, typer.Option(hidden=True, help="Process that started it, and ends it.")] = None,
    control: Annotated[Path | None, typer.Option(hidden=True, help="Socket by which that is changed.")] = None,
) -> None:
    """Show the live picture, what happened and who is known, in a browser.

    Example: trunkline view configs/camera.toml

    Example: trunkline view --results tcp://127.0.0.1:5555 --store events --gallery people.sqlite
    """
    loaded = None if config is None else load(config)
    web = (loaded.web if loaded is not None else None) or WebSettings()
    given = {key: value for key, value in (("address", address), ("accounts", accounts)) if value is not None}
    settings = msgspec.structs.replace(web, **given)
    serve(
        settings,
        results or _results(loaded),
        Places(
            store=store or _store(loaded),
            gallery=gallery or _gallery(loaded),
            config=config,
            run=run,
            model=_model(loaded, model),
            control=control,
            packets=packets or (None if loaded is None else loaded.packets.address),
            log=log,
        ),
        () if loaded is None else loaded.streams,
        server_key or (None if loaded is None else loaded.publish.curve_secret_file),
        lambda: examine(Path(_model(loaded, model).path)),
        _started,
    )


def _started(address: str, password: str | None) -> None:
    typer.echo(f"page on {address}", err=True)
    if password is not None:
        typer.echo(f"log in as admin with the password {password}, which is good for one login", err=True)


def _results(config: Config | None) -> str:
    """Where the run of a configuration is heard."""
    address = PublishSettings().address if config is None else config.publish.address
    if address.startswith("tcp://") and address.endswith(":*"):
        raise ConfigError(f"publish.address is {address!r}, whose port is not known before it runs: give --results")
    return reachable(address)


def _store(config: Config | None) -> Path | None:
    if config is None:
        return Path(STORE)
    return next((Path(sink.options.directory).expanduser() for sink in config.sinks if sink.kind == "store"), None)


def _gallery(config: Config | None) -> Path | None:
    named = None if config is None else config.identity.gallery
    return Path(GALLERY) if named is None else Path(named).expanduser() if named else None


def _model(config: Config | None, named: str | None) -> ModelSettings:
    model = ModelSettings() if config is None else config.model
    return model if named is None else msgspec.structs.replace(model, path=named)
