"""Thresholds and rates of the run, changed while it goes on."""

from typing import Any

import msgspec
import tomlkit
from litestar import get, patch
from litestar.params import JSONBody
from tomlkit import TOMLDocument

from pipeline.service.control_socket import LookOnly, Tune
from pipeline.service.web.config_file import plain, put_keys, rewrite
from pipeline.service.web.gate import TheSite, needs
from pipeline.service.web.streams import ask_run
from pipeline.settings.load import load
from pipeline.settings.schema import Config
from pipeline.settings.tuning import tuned, tuning_of


class SettingsKept(msgspec.Struct):
    """What became of a change: whether the run has taken it over, and whether the configuration file has it."""

    taken_over: bool
    written: bool


@get("/api/settings", opt=needs("admin"), sync_to_thread=True)
def settings(site: TheSite) -> dict[str, Any]:
    """Return what may change without a restart, as the run has it now; null: the model's own."""
    if site.places.control is None and site.places.config is not None:
        return tuning_of(load(site.places.config))
    return ask_run(site, LookOnly()).tuning


@patch("/api/settings", opt=needs("admin"), sync_to_thread=True)
def change_settings(data: JSONBody[dict[str, Any]], site: TheSite) -> SettingsKept:
    """Go on by other values of some of those; null: as if a key were left out."""
    keys = {key: plain(value) for key, value in data.items()}

    def edit(document: TOMLDocument, before: Config) -> None:
        tuned(before, keys)  # what is not allowed is refused before anything is written
        for key, value in keys.items():
            section, _, name = key.partition(".")
            put_keys(document.setdefault(section, tomlkit.table()), {name: value})

    if site.places.config is not None:
        _, reloaded = rewrite(site, edit, lambda before, after: after == tuned(before, keys))
        return SettingsKept(reloaded is not None, True)
    ask_run(site, Tune(keys))
    return SettingsKept(True, False)


ROUTES = (settings, change_settings)
