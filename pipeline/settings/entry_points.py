"""What packages bring to Trunkline under a name: one line of their metadata each, found without a list."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engines.errors import ConfigError, one_line


def names_of(group: str) -> tuple[str, ...]:
    """The names that installed packages have in a group, such as ``trunkline.sinks``, in order."""
    return tuple(sorted(_found(group)))


def load_from(group: str, name: str) -> Any:
    """What a name of a group stands for.

    Raises:
        ConfigError: there is no such name, or its package cannot be imported.
    """
    found = _found(group)
    if name not in found:
        raise ConfigError(f"{name!r} is not in {group}, where there are {', '.join(sorted(found)) or 'no names'}")
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name!r} of {group} ({found[name].value}) cannot be imported: {one_line(error)}") from error


@cache
def _found(group: str) -> dict[str, EntryPoint]:
    found = {each.name: each for each in entry_points(group=group)}
    if not found:
        raise ConfigError(f"no package has names in {group}: install Trunkline again (pip install -e . in a checkout)")
    return found
