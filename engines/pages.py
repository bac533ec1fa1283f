"""Pages that programs write: Jinja2 templates that lie beside the code which fills them."""

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

Filter = Callable[..., Any]

WIDTH: Final = 120  # of a page's lines
BREAK: Final = re.compile(r"\n\s*\n|\n(?=\* )")  # between paragraphs, and before a list's next point


def render(package: str, template: str, filters: Mapping[str, Filter] | None = None, /, **values: object) -> str:
    """Fill a template of a package, such as ``render("engines.study", "crossval.md.j2", found=found)``.

    Templates have the filters ``fill``, ``fmt``, ``code`` and ``short`` (the functions below), and ``filters``.

    Raises:
        jinja2.UndefinedError: the template names something that it was not given.
    """
    environment = _environment(package)
    environment.filters |= filters or {}
    return environment.get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    made = Environment(
        loader=PackageLoader(package, ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"fill": filled, "fmt": formatted, "code": in_code, "short": short}
    return made


def filled(text: str) -> str:
    """Paragraphs, and the points of lists, in lines of :data:`WIDTH`, the last with its end."""
    parts = [" ".join(part.split()) for part in BREAK.split(text) if part.strip()]
    page = ""
    for part, before in zip(parts, [None, *parts], strict=False):
        listed = before is not None and before[:2] == part[:2] == "* "
        page += ("" if before is None or listed else "\n") + _wrapped(part) + "\n"
    return page


def _wrapped(paragraph: str) -> str:
    indent = "  " if paragraph.startswith("* ") else ""
    return textwrap.fill(paragraph, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def formatted(value: float | None, spec: str, missing: str = "-") -> str:
    """A number as ``format`` writes it, or what stands for one that is missing.

    >>> formatted(0.5, ".2f"), formatted(None, ".2f")
    ('0.50', '-')
    """
    return missing if value is None else format(value, spec)


def in_code(names: Iterable[str]) -> str:
    """Names in Markdown's code, with commas."""
    return ", ".join(f"`{name}`" for name in names)


def short(count: float) -> str:
    """Three digits and a unit.

    >>> short(4_660_000), short(999)
    ('4.66 M', '999')
    """
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:g}"
