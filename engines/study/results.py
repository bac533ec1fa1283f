"""How every study leaves its results: one page, its pictures and the JSON that all were made of."""

from pathlib import Path

import msgspec
from matplotlib.figure import Figure

from engines.evaluation.plots import save
from engines.study.writing import write_text


def write_results(out: Path, name: str, found: msgspec.Struct, page: str, **pictures: Figure) -> Path:
    """Write ``name.md``, ``.json`` and pictures into the folder ``out``; each replaces the old one when it is whole.

    Args:
        out: made where it is missing.
        name: of the files.
        found: what the page shows.
        page: its Markdown.
        pictures: ``main`` is ``name.png``, another one ``name-KEY.png``.

    Returns:
        The path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    for key, picture in pictures.items():
        save(picture, out / (f"{name}.png" if key == "main" else f"{name}-{key}.png"))
    write_text(out / f"{name}.json", msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
    write_text(out / f"{name}.md", page)
    return out / f"{name}.md"
