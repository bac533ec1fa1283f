"""The page in a real browser: Debian's Chromium, over a server with a made run behind it."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest

from pipeline.frames.clock import timestamp
from tests.integration.made_browser import Page, browser, in_browser, run, server, shown, sync_api, visit, wait_until
from tests.pipeline.service.web.made_page_server import MadePageServer, MadeRun
from tests.pipeline.service.web.made_page_video import CODE_BITS, CODE_CELL, moving_box

__all__ = ["browser", "run", "server", "visit"]  # fixtures

expect = sync_api.expect

pytestmark = pytest.mark.integration

# JavaScript that reads, of some pictures of a clip, the number that stands in them and where their box is drawn.
BOX_OF_CLIP = f"""() => new Promise((done) => {{
    const video = document.querySelector("dialog video");
    const drawn = document.querySelector("dialog canvas");
    const canvas = new OffscreenCanvas({CODE_BITS * CODE_CELL}, {CODE_CELL});
    const context = canvas.getContext("2d", {{ willReadFrequently: true }});
    const found = [];
    const look = () => {{
        context.drawImage(video, -4, -4);
        const row = context.getImageData(0, {CODE_CELL // 2}, canvas.width, 1).data;
        const isSet = (bit) => row[4 * (bit * {CODE_CELL} + {CODE_CELL // 2})] > 128;
        const number = [...Array({CODE_BITS}).keys()].reduce((sum, bit) => sum + (isSet(bit) << bit), 0);
        const scale = Math.min(drawn.width / video.videoWidth, drawn.height / video.videoHeight);
        const margin = (drawn.width - video.videoWidth * scale) / 2;
        const lit = drawn.getContext("2d").getImageData(0, Math.round(250 * scale), drawn.width, 1).data;
        const left = [...Array(drawn.width).keys()].find((x) => lit[4 * x + 3] > 200);
        if (left !== undefined) found.push([number % 250, (left - margin) / scale]);
        if (found.length < 12) video.requestVideoFrameCallback(look);
        else done(found);
    }};
    video.requestVideoFrameCallback(look);
}})"""


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
    tile = page.locator("[data-stream=gate]")
    expect(tile).to_contain_text("gate is down: rtsp://10.0.0.14:554/stream1 does not answer (connection refused).")
    run.down["hall"] = "the cable is cut"
    run.publish(
        {
            "type": "health",
            "stream": "hall",
            "at": timestamp(time.time_ns()),
            "state": "down",
            "cause": "the cable is cut",
        }
    )
    expect(page.locator("[data-stream=hall]")).to_contain_text("hall is down: the cable is cut")


@in_browser
def test_an_event_appears_while_the_page_is_open_and_its_clip_plays(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/events?stream=door")
    expect(page.locator("tl-events li").first).to_be_visible()
    page.wait_for_timeout(300)  # the socket opens
    run.add_event("yard", label="dog")
    event = run.add_event("door", label="bicycle", clip=True)
    first = page.locator("tl-events li").first
    expect(first).to_contain_text("Bicycle gone")
    assert page.locator("tl-events li", has_text="Dog").count() == 0, "it does not fit the filter"
    first.locator("a").click()
    wait_until(page, "document.querySelector('dialog video')?.currentTime > 0.2")
    found = page.evaluate(BOX_OF_CLIP)
    step = (moving_box(60)[0] - moving_box(50)[0]) / 10
    assert all(abs(left - moving_box(number)[0]) < step + 1.5 for number, left in found), f"under a frame off: {found}"
    assert page.evaluate("location.hash") == f"#/events/{event['id']}?stream=door"
    page.on("dialog", lambda question: question.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(f"tl-events li[data-id='{event['id']}']")).to_have_count(0)
    assert event not in run.events


@in_browser
def test_what_was_seen_has_one_row_the_latest_word_on_it(visit: Callable[..., Page], run: MadeRun) -> None:
    def told(event: str) -> dict[str, Any]:
        one = run.add_event("yard", label="dog", event=event, track=9)
        one["body"]["first_seen"] = first_seen
        return one

    first_seen = timestamp(time.time_ns())
    began = told("new")
    page = visit("#/events?stream=yard&label=dog")
    rows = page.locator("tl-events li")
    expect(rows).to_have_text([re.compile("Dog appeared")])
    ended = told("ended")
    expect(rows).to_have_text([re.compile("Dog gone")])
    page.goto(page.url + "&event=new&event=ended")
    expect(rows).to_have_count(2)
    page.go_back()
    expect(rows).to_have_count(1)
    page.on("dialog", lambda question: question.accept())
    rows.locator("a").click()
    page.get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(0)
    assert began not in run.events and ended not in run.events, "what the row stood for is deleted"


@in_browser
def test_a_person_and_their_face_and_name_are_one_row(visit: Callable[..., Page], run: MadeRun) -> None:
    run.events.clear()
    now_ns = time.time_ns()
    run.add_visit("yard", 7, now_ns - 10**12, "Karl")  # of a run before, that gave the same numbers
    alone = {"kind": "face", "label": None, "track": 7, "body": {"best_face": {"track": 7, "object": None}}}
    run.add_event("yard", at_ns=now_ns - 60 * 10**9, **alone)
    run.add_visit("yard", 8, now_ns - 31 * 10**9)
    run.add_visit("yard", 7, now_ns - 30 * 10**9, "Ada")
    page = visit("#/events")
    rows = page.locator("tl-events li strong")
    told = ["Ada gone after 6.0 s", "Person gone after 6.0 s", "A face gone after 4.0 s", "Karl gone after 6.0 s"]
    expect(rows).to_have_text(told)
    expect(page.locator("tl-events li .of-face")).to_have_count(3)
    # Somebody who is still there, as it is told: the body, the face, the name.
    there: dict[str, Any] = {"event": "new", "body": {"first_seen": timestamp(now_ns)}}
    run.add_event("yard", track=9, **there)
    expect(rows).to_have_text(["Person appeared", *told])
    there["body"] = {"first_seen": timestamp(now_ns + 10**6), "best_face": {"track": 11, "object": 9}}
    run.add_event("yard", track=11, kind="face", label=None, **there)
    expect(page.locator("tl-events li .of-face")).to_have_count(4)
    expect(rows).to_have_text(["Person appeared", *told])
    run.add_event("yard", track=11, kind="identity", label="Eve", person="Eve", **there)
    expect(rows).to_have_text(["Eve recognised", *told])
    page.goto(page.url + "?kind=face")
    expect(rows).to_have_text(["A face appeared", "Ada gone after 6.0 s", "A face gone after 6.0 s", *told[2:]])


@in_browser
def test_a_name_that_was_taken_back_is_nobodys(visit: Callable[..., Page], run: MadeRun) -> None:
    run.events.clear()
    run.add_visit("yard", 7, time.time_ns(), "Ada")
    wrong, end = (event for event in run.events if event["person"] == "Ada")
    end["person"] = None
    withdrawn = {"event": "ended", "label": "Ada", "person": "Ada", "body": wrong["body"] | {"cause": "withdrawn"}}
    run.add_event("yard", kind="identity", track=wrong["track"], at_ns=time.time_ns() - 15 * 10**8, **withdrawn)
    page = visit("#/events")
    expect(page.locator("tl-events li strong")).to_have_text(["Person gone after 6.0 s"])


@in_browser
def test_that_no_known_scene_is_seen_has_no_row(visit: Callable[..., Page], run: MadeRun) -> None:
    run.events.clear()
    for label in ("none of these", "parking_lot", "none of these"):  # as earlier versions stored it
        run.add_event("yard", kind="scene", event="changed", track=None, label=label)
    page = visit("#/events")
    expect(page.locator("tl-events li strong")).to_have_text(["Scene: parking lot"])


@in_browser
def test_a_wrong_name_is_taken_back(visit: Callable[..., Page], run: MadeRun) -> None:
    named = [event["id"] for event in run.events if event["person"] == "Karl"]
    page = visit(f"#/events/{named[-2]}?person=Karl")  # the name; the end of the face tells it, too
    rows = page.locator("tl-events li")
    expect(rows).to_have_count(len(named) // 2)
    page.get_by_role("button", name="This is not Karl").click()
    expect(rows).to_have_count(len(named) // 2 - 1)
    assert sorted(run.sent) == [("DELETE", f"/api/people/Karl/views/{number}", None) for number in named[-2:]]


@in_browser
@pytest.mark.parametrize("trouble", ["the list cannot be read", "it is older than the list", "more is told meanwhile"])
def test_a_wrong_name_is_taken_back_of_all_that_tell_it(visit: Callable[..., Page], run: MadeRun, trouble: str) -> None:
    """Whether or not the list knows of it: of an event alone, its name stayed on the others of the same face."""
    *_, new, ended = (event for event in run.events if event["person"] == "Karl")
    if trouble == "it is older than the list":
        for _ in range(60):
            run.add_event("hall", label="truck")
    if trouble == "more is told meanwhile":
        run.events.remove(ended)
    page = visit("#/live")
    expect(page.locator("tl-live")).to_be_visible()
    if trouble == "the list cannot be read":
        page.route("**/api/events?*", lambda route: route.abort("connectionreset"))
    page.evaluate(f"location.hash = '#/events/{new['id']}'")
    button = page.get_by_role("button", name="This is not Karl")
    expect(button).to_be_visible()
    page.unroute_all()
    if trouble == "more is told meanwhile":
        run.events.append(ended)
    button.click()
    expect(page.locator("dialog")).to_have_count(0)
    assert sorted(run.sent) == [("DELETE", f"/api/people/Karl/views/{each['id']}", None) for each in (new, ended)]


@in_browser
def test_filters_stand_in_the_address_and_survive_a_reload(visit: Callable[..., Page]) -> None:
    page = visit("#/events")
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
    run.events.clear()
    for number in range(450):
        run.add_event("hall", at_ns=time.time_ns() - 10**12 - number * 10**9, has_snapshot=False)
    page = visit("#/events?stream=hall")
    rows = page.locator("tl-events li")
    expect(rows.nth(39)).to_be_attached()
    page.evaluate(
        "async () => { const view = document.querySelector('tl-events');"
        " while (view.querySelectorAll('li').length <= 400) { await view.older(); }"
        " scrollTo(0, 0); }"
    )
    run.add_event("hall", label="truck")
    expect(rows.first).to_contain_text("Truck")
    # It is trimmed before the truck comes, or with it.
    wait_until(page, "document.querySelectorAll('tl-events li').length <= 201")
    kept = rows.count()
    last = rows.last.get_attribute("data-id")
    page.evaluate("document.querySelector('tl-events').older()")
    expect(rows.nth(kept + 38)).to_be_attached()
    identifiers = page.evaluate("[...document.querySelectorAll('tl-events li')].map((row) => row.dataset.id)")
    assert len(set(identifiers)) == len(identifiers)
    assert identifiers.index(last) == kept - 1, "what was given up comes again behind what was kept"


def busy_morning(run: MadeRun, zone: str) -> datetime:
    """Let three people and a car come at 9:20 of today by a zone's clock, and others later; Return 9:15 of today."""
    quarter = datetime.now(ZoneInfo(zone)).replace(hour=9, minute=15, second=0, microsecond=0)
    run.events.clear()
    people = ((5, "door", "person"),) * 3
    for track, (minutes, stream, label) in enumerate((*people, (5, "yard", "car"), (150, "yard", "cat")), 1):
        at_ns = round((quarter + timedelta(minutes=minutes)).timestamp() * 1e9)
        for event in ("new", "ended"):
            run.add_event(stream, event=event, label=label, track=track, at_ns=at_ns)
    return quarter


@in_browser
def test_the_timeline_tells_what_happened_when_and_is_worked_by_keyboard(
    visit: Callable[..., Page], run: MadeRun
) -> None:
    quarter = busy_morning(run, "Asia/Kolkata")
    page = visit("#/events", timezone_id="Asia/Kolkata", locale="en-GB")
    strip = page.get_by_role("slider", name="When it happened")
    expect(strip).to_have_attribute("aria-valuetext", "11:45 – 12:00: cat 1")
    expect(page.locator(".bar")).to_have_count(3)
    expect(page.locator(".legend")).to_have_text("person 3car 1cat 1")
    heights = page.evaluate("[...document.querySelectorAll('.bar')].map((bar) => bar.height.baseVal.value)")
    assert heights == [pytest.approx(72), pytest.approx(24), pytest.approx(24)], "as much as there was"
    strip.focus()
    for _ in range(2):
        page.keyboard.press("PageUp")
    expect(strip).to_have_attribute("aria-valuetext", "09:45 – 10:00: nothing")
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    expect(strip).to_have_attribute("aria-valuetext", "09:15 – 09:30: person 3, car 1")
    expect(page.locator("tl-events li")).to_have_count(5)
    page.keyboard.press("Enter")
    expect(page.locator("tl-events li")).to_have_count(4)
    since, until = (moment.astimezone(UTC) for moment in (quarter, quarter + timedelta(minutes=15)))
    address = parse_qs(page.evaluate("location.hash").partition("?")[2])
    assert address == {"since": [f"{since:%FT%T}.000Z"], "until": [f"{until:%FT%T}.000Z"]}
    expect(strip).to_be_focused()
    expect(strip).to_have_attribute("aria-valuetext", "09:20 – 09:21: person 3, car 1")  # its hour, in minutes
    page.get_by_role("link", name="Zones and lines").click()
    wait_until(page, "location.hash.startsWith('#/events?kind=zone&kind=line&since=')")
    expect(page.locator(".bar")).to_have_count(0)
    strip.focus()
    page.keyboard.press("Escape")
    wait_until(page, "location.hash === '#/events?kind=zone&kind=line'")


@in_browser
@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "finger"])
def test_a_quarter_of_an_hour_of_the_timeline_is_chosen_by_pointing_at_it(
    touch: bool, visit: Callable[..., Page], run: MadeRun
) -> None:
    quarter = busy_morning(run, "Asia/Kolkata")
    size = {"width": 360, "height": 740} if touch else {"width": 1280, "height": 860}
    page = visit("#/events?stream=door", timezone_id="Asia/Kolkata", has_touch=touch, viewport=size)
    expect(page.locator(".bar")).to_have_count(1)
    box = page.locator(".strip").bounding_box()
    assert box["height"] >= 44, "a finger finds it"
    at = box["x"] + (9 * 4 + 1.5) / 96 * box["width"], box["y"] + 20
    if touch:
        page.touchscreen.tap(*at)
    else:
        page.mouse.click(*at)
    wait_until(page, "location.hash.includes('since=')")
    expect(page.locator("tl-events li")).to_have_count(3)
    address = parse_qs(page.evaluate("location.hash").partition("?")[2])
    assert (address["stream"], address["since"]) == (["door"], [f"{quarter.astimezone(UTC):%FT%T}.000Z"])
    page.get_by_role("button", name="Earlier").click()  # the hour before
    expect(page.locator("tl-events .empty")).to_be_visible()
    page.get_by_title("Show this day alone").click()
    expect(page.locator("tl-events li")).to_have_count(3)
    expect(page.locator(".bar")).to_have_count(1)


@in_browser
def test_an_unknown_face_is_named_and_the_next_frames_bear_the_name(visit: Callable[..., Page], run: MadeRun) -> None:
    page = visit("#/people")
    group = run.unknown[0]
    card = page.locator(f"[data-group='{group['group']}']")
    expect(page.locator(".group form")).to_have_count(2)
    expect(page.locator(".group", has_text="the best face is 33 pixels high")).to_have_count(1)
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
    expect(page.locator(".photo")).to_contain_text("Karl, similarity 0.66")
    expect(page.locator(".photo canvas")).to_be_visible()


@in_browser
def test_a_viewer_does_not_see_what_an_administrator_can_do(visit: Callable[..., Page], run: MadeRun) -> None:
    run.role, run.loopback = "viewer", False
    page = visit("#/zones/door")
    expect(page.locator("h1")).to_have_text("Live")  # zones are not for viewers
    assert page.locator(".links a").all_inner_texts() == ["Live", "Events", "People"]
    page.goto(page.url.split("#")[0] + "#/live/door")
    expect(page.locator(".facts")).to_contain_text("Latency")
    assert page.get_by_text("Edit zones and lines").count() == page.get_by_text("Recording").count() == 0
    page.goto(page.url.split("#")[0] + f"#/events/{run.events[-1]['id']}")
    expect(page.locator("dialog")).to_contain_text("Download")
    assert page.get_by_role("button", name="Delete").count() == 0
    page.goto(page.url.split("#")[0] + "#/people/Karl")
    expect(page.locator("dialog")).to_contain_text("Karl")
    expect(page.locator("dialog form, dialog .danger, .groups, .photo")).to_have_count(0)
    run.role = "admin"
    page.goto(page.url.split("#")[0] + "#/live/door")
    page.reload()
    recording = page.get_by_role("button", name="Recording", pressed=True)
    recording.click()
    expect(page.get_by_role("button", name="Recording", pressed=False)).to_be_enabled()
    assert run.switches == {"detect": True, "record": False}


@in_browser
def test_whoever_must_log_in_does_so_and_out(visit: Callable[..., Page], run: MadeRun) -> None:
    run.role, run.loopback = None, False
    page = visit("#/events")
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
def test_the_system_is_told(visit: Callable[..., Page]) -> None:
    page = visit("#/system")
    expect(page.locator(".histogram").first).to_contain_text("1,093 frames")
    expect(page.locator("tl-system")).to_contain_text("engines/zoo/n")
    expect(page.locator("pre")).to_contain_text("stream up  stream=yard")
