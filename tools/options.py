"""Options that several commands share, or that make one value."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


def takes(make: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command have the options of ``make`` in place of its first parameter, which is what ``make`` returns.

    Typer reads the parameters of a command from its signature; all have to be keyword arguments of both.
    """
    made = inspect.signature(make, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def called(**given: Any) -> None:
            command(make(**{name: given.pop(name) for name in made}), **given)

        parameters = (*made.values(), *own)
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        vars(called)["__signature__"] = inspect.Signature(parameters)
        return called

    return decorate
