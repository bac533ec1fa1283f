"""A report on a terminal, as a page and as a picture."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from rich.console import Console

from tests.tools.benchmarking.made_reports import make_report
from tools.benchmarking.compare import compare
from tools.benchmarking.pages import changes_of, page_of, show, to_html
from tools.benchmarking.plots import draw
from tools.benchmarking.report import BenchmarkReport, begin, load

COMMITTED = Path(__file__).parents[3] / "docs/benchmarks"


@pytest.fixture(scope="module")
def report() -> BenchmarkReport:
    return make_report()


@pytest.fixture(scope="module")
def picture(report: BenchmarkReport) -> bytes:
    return draw(report)


def shown(page: str) -> str:
    text = io.StringIO()
    show(page, Console(file=text, width=80))
    return text.getvalue()


@pytest.mark.parametrize("name", ["720p", "1080p"])
def test_a_committed_page_is_what_its_report_gives(name: str) -> None:
    assert page_of(load(COMMITTED / f"{name}.json"), f"{name}.png") == (COMMITTED / f"{name}.md").read_text()


def test_every_part_is_on_the_terminal_with_its_figures(report: BenchmarkReport) -> None:
    text = shown(page_of(report))
    for words in (
        "Engine: openvino bf16 on CPU",
        "torch int8: no <int8> here",
        "street <1>.mp4",
        "decode",
        "preprocess to 288x288",
        "50 objects, 10 faces, names",
        "1920x1080",
        "ratio to the limit",
        "at the pace of cameras",
        "Pipeline from 64 frames in memory, 2 streams on",
        "no frame dropped: 2",
        "p99 beyond 100 ms",
        "Scaling, 5 frames/s a stream",
        "10.0 (9.00-12.0)",
        "10.0 (10.0-10.0) W",
    ):
        assert words in text


def test_an_empty_report_shows_the_machine() -> None:
    empty = begin(None, 1.0, 3)
    assert empty.machine.cpu.name in shown(page_of(empty))


def test_a_comparison_says_what_is_worse_and_what_was_measured_once(report: BenchmarkReport) -> None:
    once = msgspec.structs.replace(report, pipeline=msgspec.UNSET)
    text = shown(changes_of(compare(report, once)))
    assert "Only before: pipeline.throughput.frames_per_s" in text
    assert "streams.most" in text


def test_html_needs_nothing_from_elsewhere_and_escapes_what_it_shows(report: BenchmarkReport, picture: bytes) -> None:
    page = to_html(report, picture)
    found: list[tuple[str, dict[str, str | None]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Tags().feed(page)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found}
    (source,) = (attrs["src"] for tag, attrs in found if tag == "img")
    assert source is not None
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == picture
    assert "street &lt;1&gt;.mp4" in page
    assert "<1>" not in page


def test_the_picture_has_something_of_every_part_in_it(picture: bytes) -> None:
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    height, width = pixels.shape[:2]
    assert (width, height) == (1320, 1254)  # three rows of two
    for row in range(3):
        for column in range(2):
            panel = pixels[row * height // 3 : (row + 1) * height // 3, column * width // 2 : (column + 1) * width // 2]
            assert panel.std() > 10


def test_a_report_without_parts_makes_a_picture_all_the_same() -> None:
    assert draw(begin(None, 1.0, 3)).startswith(b"\x89PNG")
