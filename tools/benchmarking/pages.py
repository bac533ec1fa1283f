"""Sections as a page: Markdown with the picture beside it, or one HTML file with the picture in it."""

import base64
from collections.abc import Iterable
from html import escape
from typing import Final

from tools.benchmarking.sections import Section

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 0.7em 0 } th, td { padding: 0.25em 0.8em; border: 1px solid #ccc }
th { background: #f3f3f3; text-align: left } td { font-variant-numeric: tabular-nums }
img { max-width: 100%; height: auto }
"""


def to_markdown(title: str, sections: Iterable[Section], picture: str) -> str:
    """The page; ``picture`` is the path from it to the picture."""
    lines = [f"# {title}", "", f"![The figures as a picture]({picture})", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        if section.rows:
            lines += [_row(section.columns), _row(["---"] * len(section.columns)), *map(_row, section.rows), ""]
        lines += [f"* {note}" for note in section.notes]
        lines += [""] if section.notes else []
    return "\n".join(lines)


def to_html(title: str, sections: Iterable[Section], picture: bytes) -> str:
    """The page, with nothing that it needs elsewhere; ``picture`` is a PNG."""
    data = base64.b64encode(picture).decode()
    body = [f'<h1>{escape(title)}</h1>\n<img alt="The figures as a picture" src="data:image/png;base64,{data}">']
    for section in sections:
        body.append(f"<h2>{escape(section.title)}</h2>")
        if section.rows:
            head = "".join(f"<th>{escape(column)}</th>" for column in section.columns)
            rows = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in section.rows)
            body.append(f"<table>\n<tr>{head}</tr>\n{rows}\n</table>")
        body += [f"<p>{escape(note)}</p>" for note in section.notes]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
