import pytest
from jinja2 import UndefinedError

from engines.pages import filled, render


def test_paragraphs_and_points_are_filled_and_nothing_else_is_broken() -> None:
    long = "word-and-word " * 12
    text = f"A\n  paragraph.\n\n* {long}\n* another\npoint\n"
    lines = filled(text).splitlines()
    assert lines[:2] == ["A paragraph.", ""]
    assert lines[2].startswith("* word-and-word") and len(lines[2]) <= 120 and lines[3].startswith("  word-and-word")
    assert lines[-1] == "* another point"
    assert filled("\n \n") == ""


def test_a_template_that_lacks_something_is_an_error_and_no_gap() -> None:
    with pytest.raises(UndefinedError):
        render("engines.study", "crossval.md.j2")
