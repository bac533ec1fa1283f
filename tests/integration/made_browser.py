"""A real browser over a server of the page with a made run behind it, for tests."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.service.web.made_page_server import MadePageServer, MadeRun, fill
from tests.ports import free_port

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000

Page = Any  # Playwright's, which need not be there

in_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api.expect.set_options(timeout=PATIENCE_MS)  # which a context's own patience says nothing of
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server() -> Iterator[MadePageServer]:
    made = MadePageServer(MadeRun(), free_port())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def run(server: MadePageServer) -> MadeRun:
    """A made run like new; the server and its address stay."""
    fresh = MadeRun()
    fill(fresh)
    keep = {"listeners": server.run.listeners}
    for name, value in (vars(fresh) | keep).items():
        setattr(server.run, name, value)
    return server.run


@pytest.fixture
def visit(browser: Any, server: MadePageServer, run: MadeRun) -> Iterator[Callable[..., Page]]:
    """``visit("#/live", **context)`` opens the page; at the end, it has neither an error nor a violation to tell."""
    contexts, wrong = [], []

    def open_page(address: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}} | options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{server.address}/{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    # A server that a test stops, a login that is asked for and pixels that a test reads are no faults of the page.
    meant = (
        "willReadFrequently",
        "ERR_CONNECTION_REFUSED",
        "ERR_CONNECTION_RESET",
        "status of 401",
        "WebSocket connection",
        "ERR_EMPTY_RES",
    )
    assert [text for text in wrong if not any(part in text for part in meant)] == []


def wait_until(page: Page, expression: str) -> None:
    """Return once JavaScript is true; Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"in vain: {expression}"
        page.wait_for_timeout(40)


def shown(stream: str) -> str:
    """JavaScript that finds the picture of a stream."""
    return f"document.querySelector('[data-stream={stream}] tl-picture')"
