"""Pictures of the page for the docs: ``python -m tests.pipeline.service.web.page_pictures docs/images``.

After the folder may stand ``light``: the docs have the dark colours.
"""

import io
import sys
import time
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.pipeline.service.web.made_page_server import MadePageServer, MadeRun, add_person, fill
from tests.pipeline.service.web.made_page_video import encode

CHROMIUM = "/usr/bin/chromium"
PORT = 8799
COLOURS = 256  # of each picture: as few as do not show
SCREENS = {"desktop": (1440, 900), "phone": (390, 844)}
VIEWS = {
    "live": ("#/live", "document.querySelector('[data-mode=mse]') && document.querySelector('[data-mode=mjpeg]')"),
    "events": ("#/events", "document.querySelectorAll('tl-events li img').length > 10"),
    "people": ("#/people", "document.querySelectorAll('.group img').length > 2"),
}
PATIENCE_S = 180.0
SETTLED_S = 1.5  # pictures are loaded, video plays


def take(page: Page, address: str, ready: str, file: Path) -> None:
    """Write what a view looks like."""
    page.goto(f"http://127.0.0.1:{PORT}/{address}", timeout=PATIENCE_S * 1000)
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(f"Boolean({ready})"):
        assert time.monotonic() < end, f"{address} never became ready: {ready}"
        page.wait_for_timeout(50)
    page.wait_for_timeout(SETTLED_S * 1000)
    picture = Image.open(io.BytesIO(page.screenshot(timeout=PATIENCE_S * 1000))).convert("RGB")
    picture.quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).save(file, optimize=True)


def main(folder: Path, scheme: Literal["dark", "light"] = "dark") -> None:
    """Write pictures of all views, on a desktop and on a phone."""
    run = MadeRun(coded=False)
    fill(run)
    encode("door", coded=False)
    add_person(run, "Eileen", 5, consent="agreed on 2 March")
    for event in run.events:
        if event["kind"] == "face" and event["stream"] == "door":
            event |= {"kind": "identity", "event": "new", "label": "Eileen", "person": "Eileen"}
    run.unknown = run.unknown[1:]
    server = MadePageServer(run, PORT)
    server.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for screen, (width, height) in SCREENS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                locale="en-GB",
                has_touch=screen == "phone",
            )
            for view, (address, ready) in VIEWS.items():
                take(context.new_page(), address, ready, folder / f"page-{view}-{screen}.png")
            context.close()
        browser.close()
    server.stop()


if __name__ == "__main__":
    began = time.monotonic()
    main(Path(sys.argv[1]), "light" if sys.argv[2:] == ["light"] else "dark")
    print(f"done in {time.monotonic() - began:.0f} s")
