"""How every study leaves its results: one page, one picture and the JSON that both were made of."""

from pathlib import Path

import msgspec
from matplotlib.figure import Figure

from engines.evaluation.plots import save
from engines.study.writing import write_text


def write_results(out: Path, name: str, found: msgspec.Struct, picture: Figure, markdown: str) -> Path:
    """Write ``name.png``, ``.json`` and ``.md`` into the folder ``out``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    out.mkdir(parents=True, exist_ok=True)
    save(picture, out / f"{name}.png")
    write_text(out / f"{name}.json", msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
    page = out / f"{name}.md"
    write_text(page, markdown)
    return page
