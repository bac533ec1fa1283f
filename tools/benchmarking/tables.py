"""Sections as tables on a terminal."""

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.benchmarking.sections import Section

WIDTH: Final = 140


def show(sections: Iterable[Section], console: Console) -> None:
    """Print one section after the other; where no terminal says how wide it is, as wide as the tables need."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for section in sections:
        console.print(f"\n{section.title}", style="bold", markup=False, highlight=False, soft_wrap=True)
        if section.rows:
            table = Table(*section.columns)
            for row in section.rows:
                table.add_row(*map(Text, row))
            console.print(table)
        for note in section.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
