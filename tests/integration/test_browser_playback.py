"""What Chromium does with our MP4: through Media Source Extensions, and as a file that is or was written."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.sinks.clip_file import ClipFile
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packets import PacketMessage
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_packets import packets_of

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000
FRAMES = 50

APPEND = """
async ({mime, pieces}) => {
  const video = document.createElement("video");
  video.muted = true;
  const source = new MediaSource();
  video.src = URL.createObjectURL(source);
  document.body.append(video);
  await new Promise(done => source.addEventListener("sourceopen", done, {once: true}));
  const buffer = source.addSourceBuffer(mime);
  for (const piece of pieces) {
    buffer.appendBuffer(Uint8Array.from(atob(piece), letter => letter.charCodeAt(0)));
    await new Promise((done, failed) => {
      buffer.addEventListener("updateend", done, {once: true});
      buffer.addEventListener("error", failed, {once: true});
    });
  }
  source.endOfStream();
  const seen = [];
  const each = (now, picture) => { seen.push(picture.mediaTime); video.requestVideoFrameCallback(each); };
  video.requestVideoFrameCallback(each);
  video.currentTime = video.buffered.start(0);
  video.playbackRate = 0.5;
  await video.play();
  await new Promise(done => video.addEventListener("ended", done, {once: true}));
  return {ranges: video.buffered.length, start: video.buffered.start(0), end: video.buffered.end(0),
          size: [video.videoWidth, video.videoHeight], error: video.error && video.error.message, seen};
}
"""
PLAY = """
async (address) => {
  const video = document.createElement("video");
  video.muted = true;
  video.src = address;
  document.body.append(video);
  await new Promise((done, failed) => {
    video.addEventListener("loadeddata", done, {once: true});
    video.addEventListener("error", () => failed(video.error.message), {once: true});
  });
  const duration = video.duration;
  video.playbackRate = 2;
  await video.play();
  await new Promise(done => video.addEventListener("ended", done, {once: true}));
  video.currentTime = 1.0;
  await new Promise(done => video.addEventListener("seeked", done, {once: true}));
  return {duration, end: video.duration, sought: video.currentTime};
}
"""

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Debian's Chromium, {CHROMIUM}")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


@pytest.mark.parametrize(("suffix", "options"), [("mp4", {"bf": "2"}), ("ts", {"bf": "0"})])
def test_it_plays_through_media_source_extensions_at_its_times(
    page: Any, tmp_path: Path, suffix: str, options: dict[str, str]
) -> None:
    path = write_clip(tmp_path / f"clip.{suffix}", FRAMES, (320, 240), options={"g": "25"} | options)
    packets = packets_of(path)
    fragmenter = Fragmenter(packets[0])
    pieces = [fragmenter.init, *map(fragmenter.fragment, packets), fragmenter.rest()]
    sent = {"mime": fragmenter.mime, "pieces": [base64.b64encode(piece).decode() for piece in pieces if piece]}
    page.goto("about:blank")
    found = page.evaluate(APPEND, sent)
    assert (found["ranges"], found["size"], found["error"]) == (1, [320, 240], None)
    assert found["end"] - found["start"] == pytest.approx(FRAMES / 25, abs=0.05)
    times = [packet.time_s + found["start"] for packet in packets]
    assert found["seen"], json.dumps(found)
    for media_s in found["seen"]:
        assert min(abs(media_s - at) for at in times) < 0.002


@pytest.mark.parametrize("closed", [True, False])
def test_a_clip_plays_as_a_file_once_it_is_done_and_while_it_is_written(
    page: Any, tmp_path: Path, closed: bool
) -> None:
    packets: list[PacketMessage] = packets_of(write_clip(tmp_path / "clip.mp4", FRAMES, (320, 240)))
    clip = ClipFile(tmp_path, packets[0])
    for packet in packets:
        clip.write(packet)
    if closed:
        clip.close()
    page.goto("file:///")
    found = page.evaluate(PLAY, clip.path.as_uri())
    assert found["end"] == pytest.approx(FRAMES / 25, abs=0.2), found
    assert found["sought"] == 1.0
    if not closed:
        clip.close()
