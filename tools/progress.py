"""The bar that long work shows: what is done of it, how long it takes, and where it is in words."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar(console: Console | None = None, *, shown: bool = True) -> Progress:
    """A bar on ``console``, by default stderr; its tasks have a field ``told``, what is being done now."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns,
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
        console=console or Console(stderr=True),
        disable=not shown,
    )
