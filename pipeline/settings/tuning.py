"""What of a configuration may change while its run goes on, besides its streams."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from msgspec import structs

from engines.errors import ConfigError
from pipeline.settings.explain import RefusedError, converted
from pipeline.settings.schema import Config

TUNABLE: Final = (
    "inference.object_score",
    "inference.face_score",
    "inference.fps",
    "inference.min_rate_hz",
    "identity.similarity",
)


def tuning_of(config: Config) -> dict[str, Any]:
    """Return the values of all keys that may change, by their names in a configuration; None: the model's own."""
    return {key: getattr(getattr(config, key.partition(".")[0]), key.partition(".")[2]) for key in TUNABLE}


def tuned(config: Config, keys: Mapping[str, Any]) -> Config:
    """Return a configuration with other values of some keys, None: their defaults.

    >>> tuned(Config(streams=()), {"inference.fps": 5}).inference.fps
    5.0

    Raises:
        ConfigError: a key needs a restart, or there is none of its name; or a value is not allowed.
    """
    sections: dict[str, dict[str, Any]] = {}
    for key, value in keys.items():
        if key not in TUNABLE:
            raise ConfigError(f"{key} cannot be changed while a run goes on; these can: {', '.join(TUNABLE)}")
        if isinstance(value, float) and not isfinite(value):
            raise ConfigError(f"{key} is {value}, but must be a finite number")
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    for section, values in sections.items():
        before = getattr(config, section)
        given = {name: value for name, value in values.items() if value is not None}
        try:
            wanted = converted(type(before), given, given, (section,))
        except RefusedError as refusal:
            raise ConfigError(str(refusal)) from None
        after = structs.replace(before, **{name: getattr(wanted, name) for name in values})
        config = structs.replace(config, **{section: after})
    return config
