"""The page for everybody: small, in one language's file, by keyboard, on a phone, in any colours and any zone."""

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.integration.made_browser import Page, browser, in_browser, run, server, sync_api, visit, wait_until
from tests.pipeline.service.web.made_page_server import PAGE, MadeRun

MAX_LINES = 2500

__all__ = ["browser", "run", "server", "visit"]  # fixtures

expect = sync_api.expect

pytestmark = pytest.mark.integration


def test_every_script_is_one_that_node_can_read() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    # One process for all of them: each takes long to start on a busy machine.
    read = (
        "for (const identifier of process.argv.slice(1))"
        " new vm.SourceTextModule(fs.readFileSync(identifier, 'utf8'), { identifier })"
    )
    scripts = sorted(str(script) for script in PAGE.glob("*.js"))
    assert scripts
    done = subprocess.run(
        [node, "--no-warnings", "--experimental-vm-modules", "-e", read, *scripts],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    sources = {file.name: file.read_text() for file in PAGE.iterdir()}
    assert sum(len(source.splitlines()) for source in sources.values()) < MAX_LINES
    addresses = {
        address for source in sources.values() for address in re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", source)
    }
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", "".join(sources.values()))


def test_all_words_stand_in_one_file() -> None:
    """A sentence in quotes anywhere else is one that somebody forgot."""
    found = {
        f"{file.name}: {words}"
        for file in PAGE.glob("*.js")
        if file.name != "text.js"
        for line in file.read_text().splitlines()
        for words in re.findall(r"[\"'`]([A-Z][a-z]+ [a-z ]+\.?)[\"'`]", re.sub(r"//.*", "", line))
    }
    assert found == set()


@in_browser
def test_a_zone_is_drawn_with_the_mouse_and_sent(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/zones/yard")
    page.get_by_role("button", name="Draw a zone").click()
    surface = page.locator(".surface")
    box = surface.bounding_box()
    corners = [(0.2, 0.3), (0.8, 0.3), (0.6, 0.9), (0.2, 0.3)]
    for x, y in corners:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    shape = page.locator(".shape-row").last
    shape.get_by_label("Name").fill("bench")
    shape.get_by_label("Labels").fill("cat, dog")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".toast")).to_contain_text("saved")
    (zone,) = run.zones["yard"]["zones"]
    assert (zone["name"], zone["labels"]) == ("bench", ["cat", "dog"])
    assert zone["points"] == [[pytest.approx(x, abs=0.01), pytest.approx(y, abs=0.01)] for x, y in corners[:3]]


@in_browser
def test_a_zone_is_drawn_with_the_keyboard_alone(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/zones/hall")
    draw = page.get_by_role("button", name="Draw a zone")
    expect(draw).to_be_enabled()  # once the zones that there are have come
    draw.focus()
    keys = ["Enter", "Enter", *["Shift+ArrowRight"] * 3, "Enter", *["Shift+ArrowDown"] * 4, "ArrowUp", "Enter", "Enter"]
    for key in keys:
        page.keyboard.press(key)
    expect(page.locator(".shape-row").get_by_label("Name")).to_be_focused()
    page.get_by_role("button", name="Corner 3 of zone-1").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Save").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("saved")
    (zone,) = run.zones["hall"]["zones"]
    assert zone["points"] == [[0.5, 0.5], [0.65, 0.5], [0.64, 0.69]]


@in_browser
def test_everything_is_reached_with_the_keyboard(visit: Callable[..., Page]) -> None:
    page = visit("#/live")
    expect(page.locator("[data-stream=door]")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.stream") == "door":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px", "where the keyboard is can be seen"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("door")
    page.locator(".links [data-view=events]").focus()
    page.keyboard.press("Enter")
    page.locator("tl-events li a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    first = page.evaluate("location.hash")
    page.keyboard.press("ArrowRight")
    wait_until(page, f"location.hash !== '{first}'")
    number = page.evaluate("location.hash.split('/').at(-1)")
    expect(page.locator(f"dialog[data-id='{number}']")).to_be_visible()  # Escape is for this one: the other is closed
    expect(page.locator("dialog")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    wait_until(page, "location.hash === '#/events'")


@in_browser
def test_the_keyboard_stays_where_it_is_when_things_are_drawn_anew(visit: Callable[..., Page], run: MadeRun) -> None:
    run.zones["yard"] = {"zones": [{"name": "bench", "points": [[0.2, 0.3], [0.8, 0.3], [0.6, 0.9]]}], "lines": []}
    page = visit("#/zones/yard")
    expect(page.locator(".corner")).to_have_count(3)
    page.locator(".surface").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Corner 1 of bench")).to_be_focused()
    page.goto(page.url.split("#")[0] + "#/people")
    card = page.locator("a.person", has_text="Karl")
    card.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    wait_until(page, "location.hash === '#/people'")
    expect(card).to_be_focused()


@in_browser
def test_a_person_is_forgotten_on_the_day_that_was_chosen(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/people/Karl", timezone_id="America/Los_Angeles")
    day = page.get_by_label("Forget on")
    day.fill("2027-03-01")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("dialog")).to_have_count(0)
    page.goto(page.url.split("#")[0] + "#/people/Karl")
    expect(day).to_have_value("2027-03-01")


# What is written on what.
WRITTEN = [
    *((words, ground) for words in ("text", "muted", "accent", "bad") for ground in ("surface", "raised", "ground")),
    *((words, "surface") for words in ("good", "warn")),
    ("on-accent", "accent"),
    ("bad", "bad-ground"),
    ("on-picture", "picture"),
    ("surface", "text"),
]


def luminance(rgb: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", rgb)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_has_a_contrast_of_4_5(visit: Callable[..., Page], scheme: str) -> None:
    page = visit("#/live", color_scheme=scheme)
    colours = page.evaluate(
        """(names) => Object.fromEntries(names.map((name) => {
            const probe = document.body.appendChild(document.createElement("i"));
            probe.style.color = `var(--${name})`;
            return [name, getComputedStyle(probe).color];
        }))""",
        sorted({name for pair in WRITTEN for name in pair}),
    )
    dark = luminance(colours["ground"]) < 0.2
    assert dark == (scheme == "dark")
    for words, ground in WRITTEN:
        light, deep = sorted((luminance(colours[words]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (deep + 0.05) >= 4.5, f"{words} on {ground} in {scheme}: {colours}"
    page.get_by_role("button", name="Colours").click()  # to dark, whatever the system says
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_of_the_timeline_have_a_contrast_of_3(visit: Callable[..., Page], run: MadeRun, scheme: str) -> None:
    labels = ["person", "car", "cat", "dog", "bicycle", "truck", *"abcdefgh"]
    run.events.clear()
    for label in labels:
        run.add_event("yard", event="new", label=label)
    page = visit("#/events", color_scheme=scheme)
    expect(page.locator(".bar")).to_have_count(len(labels))
    painted = page.evaluate(
        """() => {
            const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            const rgb = (colour) => {
                context.fillStyle = colour;
                context.fillRect(0, 0, 1, 1);
                return [...context.getImageData(0, 0, 1, 1).data].join();
            };
            const grounds = ["surface", "raised"].map((name) => {
                const probe = document.body.appendChild(document.createElement("i"));
                probe.style.color = `var(--${name})`;
                return rgb(getComputedStyle(probe).color);
            });
            const bars = [...document.querySelectorAll(".bar")].map((bar) => rgb(getComputedStyle(bar).fill));
            return [grounds, [...new Set(bars)]];
        }"""
    )
    grounds, bars = painted
    assert len(bars) == 8, "all colours that a label may have"
    for bar in bars:
        for ground in grounds:  # of what is chosen, the raised one
            light, deep = sorted((luminance(bar), luminance(ground)), reverse=True)
            assert (light + 0.05) / (deep + 0.05) >= 3, f"{bar} on {ground} in {scheme}"


@in_browser
def test_a_phone_shows_all_without_scrolling_sideways(visit: Callable[..., Page]) -> None:
    page = visit("#/live", viewport={"width": 360, "height": 740})
    for view in ("live", "live/door", "events", "people", "zones", "system"):
        page.goto(page.url.split("#")[0] + f"#/{view}")
        wait_until(page, "document.querySelector('main h1')")
        page.wait_for_timeout(250)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view


@in_browser
def test_times_are_in_the_readers_zone(visit: Callable[..., Page], run: MadeRun) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=34, second=56)
    run.events.clear()
    run.add_event("door", at_ns=round(noon.timestamp() * 1e9))
    page = visit("#/events", timezone_id="Asia/Kolkata", locale="en-GB")
    expect(page.locator("tl-events time")).to_have_text("18:04:56")
