"""The page in a real browser: Debian's Chromium, over a server with a made run behind it."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.service.web.made_page_server import PAGE, MadePageServer, MadeRun, fill, stamp
from tests.pipeline.service.web.made_page_video import CODE_BITS, CODE_CELL, moving_box

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000
MAX_LINES = 2500

Page = Any  # Playwright's, which need not be there

pytestmark = pytest.mark.integration
in_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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


@in_browser
def test_boxes_are_drawn_where_the_message_says(visit: Callable[..., Page]) -> None:
    page = visit("#/live")
    picture = shown("hall")  # which has no video: boxes on a dark field
    wait_until(page, f"{picture}?.shown?.seq > 3")
    found = page.evaluate(
        f"""() => {{
            const picture = {picture};
            picture.draw();
            const {{ canvas, context, scale }} = picture.overlay;
            const {{ seq, size, objects: [{{ box }}] }} = picture.shown;
            const [x0, y0, x1] = box.map((value) => Math.round(value * scale));
            const row = context.getImageData(0, y0 + Math.round(60 * scale), canvas.width, 1).data;
            const lit = (x) => Math.max(...row.slice(4 * x, 4 * x + 4));
            return {{ left: lit(x0), right: lit(x1), middle: lit((x0 + x1) >> 1), box, seq,
                      fits: Math.abs(canvas.width / scale - size[0]) < 2 }};
        }}"""
    )
    assert found["left"] > 150, "the left edge is drawn at x0"
    assert found["right"] > 150, "and the right one at x1"
    assert found["middle"] == 0, "and nothing between them"
    assert found["fits"]
    assert tuple(found["box"]) == moving_box(found["seq"], "hall")


@in_browser
def test_video_plays_and_its_boxes_belong_to_the_picture_that_is_shown(visit: Callable[..., Page]) -> None:
    page = visit("#/live/door")
    picture = shown("door")
    wait_until(page, f"{picture}?.dataset.mode === 'mse'")
    began = page.evaluate(f"{picture}.video.currentTime")
    wait_until(page, f"{picture}.video.currentTime > {began} + 0.5")
    # The number of a frame stands in its picture; it is read at the moment that the page has drawn its boxes.
    errors = page.evaluate(
        f"""() => new Promise((done) => {{
            const picture = {picture};
            const canvas = new OffscreenCanvas({CODE_BITS * CODE_CELL}, {CODE_CELL});
            const context = canvas.getContext("2d", {{ willReadFrequently: true }});
            const found = [];
            const look = () => {{
                context.drawImage(picture.video, -4, -4);
                const row = context.getImageData(0, {CODE_CELL // 2}, canvas.width, 1).data;
                const isSet = (bit) => row[4 * (bit * {CODE_CELL} + {CODE_CELL // 2})] > 128;
                const number = [...Array({CODE_BITS}).keys()].reduce((sum, bit) => sum + (isSet(bit) << bit), 0);
                if (picture.shown) found.push(picture.shown.seq % 250 - number);
                if (found.length < 20) picture.video.requestVideoFrameCallback(look);
                else done(found);
            }};
            picture.video.requestVideoFrameCallback(look);
        }})"""
    )
    errors = sorted(abs(error) for error in errors)
    assert errors[len(errors) // 2] == 0, "the boxes are those of the picture"
    assert errors[-3] <= 1, "and under one frame off, but where this machine is busy"


@in_browser
def test_pictures_are_shown_where_there_is_no_video(visit: Callable[..., Page]) -> None:
    page = visit("#/live")
    picture = shown("yard")
    wait_until(page, f"{picture}?.mode === 'mjpeg' && {picture}.shown?.seq > 3")
    middle = f"[...{picture}.overlay.context.getImageData({picture}.overlay.canvas.width / 2, 30, 1, 1).data]"
    wait_until(page, f"Math.max(...{middle}.slice(0, 3)) > 20")


@in_browser
def test_a_stream_that_is_down_says_why(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/live")
    expect = sync_api.expect
    tile = page.locator("[data-stream=gate]")
    expect(tile).to_contain_text("gate is down: rtsp://10.0.0.14:554/stream1 does not answer (connection refused).")
    run.down["hall"] = "the cable is cut"
    run.publish(
        {"type": "health", "stream": "hall", "at": stamp(time.time_ns()), "state": "down", "cause": "the cable is cut"}
    )
    expect(page.locator("[data-stream=hall]")).to_contain_text("hall is down: the cable is cut")


@in_browser
def test_an_event_appears_while_the_page_is_open_and_its_clip_plays(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/events?stream=door")
    expect = sync_api.expect
    expect(page.locator("tl-events li").first).to_be_visible()
    page.wait_for_timeout(300)  # the socket opens
    run.add_event("yard", label="dog")
    event = run.add_event("door", label="bicycle", clip=True)
    first = page.locator("tl-events li").first
    expect(first).to_contain_text("Bicycle gone")
    assert page.locator("tl-events li", has_text="Dog").count() == 0, "it does not fit the filter"
    first.locator("a").click()
    wait_until(page, "document.querySelector('dialog video').currentTime > 0.2")
    assert page.evaluate("location.hash") == f"#/events/{event['id']}?stream=door"
    page.on("dialog", lambda question: question.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(f"tl-events li[data-id='{event['id']}']")).to_have_count(0)
    assert event not in run.events


@in_browser
def test_filters_stand_in_the_address_and_survive_a_reload(visit: Callable[..., Page]) -> None:
    page = visit("#/events")
    expect = sync_api.expect
    page.locator("summary").click()
    page.locator("tl-events label.chip", has_text="yard").locator("input").check()
    page.get_by_label("Label").fill("cat")
    page.get_by_label("Label").press("Enter")
    wait_until(page, "location.hash === '#/events?stream=yard&label=cat'")
    for _ in range(2):
        expect(page.locator("tl-events li", has_text="door")).to_have_count(0)
        expect(page.locator("tl-events li", has_text="yard").first).to_be_visible()
        expect(page.locator("tl-events label.chip", has_text="yard").locator("input")).to_be_checked()
        expect(page.get_by_label("Label")).to_have_value("cat")
        page.reload()


@in_browser
def test_a_long_list_goes_on_and_stays_short_in_memory(visit: Callable[..., Page], run: MadeRun) -> None:
    for number in range(450):
        run.add_event("hall", at_ns=time.time_ns() - 10**12 - number * 10**9, has_snapshot=False)
    page = visit("#/events?stream=hall")
    expect = sync_api.expect
    rows = page.locator("tl-events li")
    expect(rows.nth(39)).to_be_attached()
    page.evaluate(
        "async () => { const view = document.querySelector('tl-events');"
        " while (view.querySelectorAll('li').length <= 400) { await view.older(); }"
        " scrollTo(0, 0); }"
    )
    run.add_event("hall", label="truck")
    expect(rows.first).to_contain_text("Truck")
    expect(rows).to_have_count(200)
    last = rows.last.get_attribute("data-id")
    page.evaluate("document.querySelector('tl-events').older()")
    expect(rows.nth(238)).to_be_attached()
    identifiers = page.evaluate("[...document.querySelectorAll('tl-events li')].map((row) => row.dataset.id)")
    assert len(set(identifiers)) == len(identifiers)
    assert identifiers.index(last) == 199, "what was given up comes again behind what was kept"


@in_browser
def test_an_unknown_face_is_named_and_the_next_frames_bear_the_name(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/people")
    expect = sync_api.expect
    group = run.unknown[0]
    card = page.locator(f"[data-group='{group['group']}']")
    card.locator("input").fill("Eileen")
    card.get_by_role("button", name="Name").click()
    expect(page.locator(".people", has_text="Eileen")).to_be_visible()
    expect(card).to_have_count(0)
    assert ("POST", "/api/people", {"name": "Eileen", "event_ids": group["event_ids"]}) in run.sent
    page.locator(".links [data-view=live]").click()
    wait_until(page, f"{shown('door')}?.shown?.faces[0]?.identity?.name === 'Eileen'")


@in_browser
def test_a_person_is_renamed_exported_and_forgotten(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/people/Karl")
    expect = sync_api.expect
    page.on("dialog", lambda question: question.accept())
    page.get_by_label("New name").fill("Karl M.")
    page.get_by_label("Consent note").fill("signed on paper")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".people")).to_contain_text("signed on paper")
    page.get_by_role("link", name="Karl M., details").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export everything").click()
    assert download.value.suggested_filename.endswith(".zip")
    page.get_by_role("button", name="Forget").click()
    expect(page.locator(".people")).to_contain_text("Nobody is in the gallery yet.")
    assert run.people == {}


@in_browser
def test_who_is_on_a_photo(visit: Callable[..., Page], tmp_path: Path) -> None:
    from tools.demo_scene import PHOTOGRAPHS

    page = visit("#/people")
    page.get_by_label("Choose or drop a photo").set_input_files(str(PHOTOGRAPHS["astronaut"].path))
    sync_api.expect(page.locator(".photo")).to_contain_text("Karl, similarity 0.66")
    sync_api.expect(page.locator(".photo canvas")).to_be_visible()


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
    sync_api.expect(page.locator(".toast")).to_contain_text("saved")
    (zone,) = run.zones["yard"]["zones"]
    assert (zone["name"], zone["labels"]) == ("bench", ["cat", "dog"])
    assert zone["points"] == [[pytest.approx(x, abs=0.01), pytest.approx(y, abs=0.01)] for x, y in corners[:3]]


@in_browser
def test_a_zone_is_drawn_with_the_keyboard_alone(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/zones/hall")
    page.get_by_role("button", name="Draw a zone").focus()
    keys = ["Enter", "Enter", *["Shift+ArrowRight"] * 3, "Enter", *["Shift+ArrowDown"] * 4, "ArrowUp", "Enter", "Enter"]
    for key in keys:
        page.keyboard.press(key)
    sync_api.expect(page.locator(".shape-row").get_by_label("Name")).to_be_focused()
    page.get_by_role("button", name="Corner 3 of zone-1").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Save").focus()
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".toast")).to_contain_text("saved")
    (zone,) = run.zones["hall"]["zones"]
    assert zone["points"] == [[0.5, 0.5], [0.65, 0.5], [0.64, 0.69]]


@in_browser
def test_a_viewer_does_not_see_what_an_administrator_can_do(visit: Callable[..., Page], run: MadeRun) -> None:
    run.role, run.loopback = "viewer", False
    page = visit("#/zones/door")
    expect = sync_api.expect
    expect(page.locator("h1")).to_have_text("Live")  # zones are not for viewers
    assert page.locator(".links a").all_inner_texts() == ["Live", "Events", "People"]
    page.goto(page.url.split("#")[0] + "#/live/door")
    expect(page.locator(".facts")).to_contain_text("Latency")
    assert page.get_by_text("Edit zones and lines").count() == 0
    page.goto(page.url.split("#")[0] + f"#/events/{run.events[-1]['id']}")
    expect(page.locator("dialog")).to_contain_text("Download")
    assert page.get_by_role("button", name="Delete").count() == 0
    page.goto(page.url.split("#")[0] + "#/people/Karl")
    expect(page.locator("dialog")).to_contain_text("Karl")
    expect(page.locator("dialog form, dialog .danger, .groups, .photo")).to_have_count(0)


@in_browser
def test_whoever_must_log_in_does_so_and_out(visit: Callable[..., Page], run: MadeRun) -> None:
    run.role, run.loopback = None, False
    page = visit("#/events")
    expect = sync_api.expect
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("the name or the password is wrong")
    page.get_by_label("Password", exact=True).fill("open sesame")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Events")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("h1")).to_have_text("Log in")


@in_browser
def test_the_page_survives_the_servers_restart(
    visit: Callable[..., Page], server: MadePageServer, run: MadeRun
) -> None:
    page = visit("#/live")
    expect = sync_api.expect
    picture = shown("door")
    wait_until(page, f"{picture}?.shown")
    server.stop()
    try:
        expect(page.locator(".banner")).to_be_visible()
        before = run.index
    finally:
        server.start()
    expect(page.locator(".banner")).to_be_hidden()
    wait_until(page, f"{picture}.shown?.seq > {before} && {picture}.dataset.mode === 'mse'")


@in_browser
def test_everything_is_reached_with_the_keyboard(visit: Callable[..., Page]) -> None:
    page = visit("#/live")
    expect = sync_api.expect
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
    expect(page.locator("dialog")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    wait_until(page, "location.hash === '#/events'")


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
    sync_api.expect(page.locator("tl-events time")).to_have_text("18:04:56")


@in_browser
def test_the_system_is_told(visit: Callable[..., Page]) -> None:
    page = visit("#/system")
    expect = sync_api.expect
    expect(page.locator(".histogram").first).to_contain_text("1,093 frames")
    expect(page.locator("tl-system")).to_contain_text("engines/zoo/n")
