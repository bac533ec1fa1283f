"""``trunkline demo``: the whole way, from a video to messages, in one command."""

import importlib.util
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from engines.errors import StageError
from engines.files import PRIVATE_FOLDER
from engines.spec import USUAL_TASKS, load_model
from pipeline.gallery import Gallery
from pipeline.settings.redact import redact
from pipeline.settings.schema import ModelSettings
from pipeline.sinks.segments import segments
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage, Message
from tools.demo_clip import FRAMES, render
from tools.demo_report import DemoSummary, LiveEnrolment, Sightings, contact_sheet, sightings_table, summarise
from tools.demo_scene import PHOTOGRAPHS, RATE, SECONDS, Photograph
from tools.output import json_of, print_json

STREAM: Final = "demo"
GALLERY_FILE: Final = "gallery.sqlite"
BEFORE: Final = PHOTOGRAPHS["astronaut"]  # enrolled before the clip starts
LIVE: Final = PHOTOGRAPHS["hopper"]  # enrolled while it runs, half-way
TRUNKLINE: Final = (sys.executable, "-c", "from tools.main import main; main()")
SOURCE_VARIABLE: Final = "TRUNKLINE_DEMO_SOURCE"
ONE_VIDEO_S: Final = 86_400.0  # longer than any demo: one file
MIN_FREE_GB: Final = 0.2  # the demo is small
START_S: Final = 90.0  # for engines to load and a source to answer, on a slow machine
CLIP_LIMIT_S: Final = 6.0 * SECONDS  # a machine that is slower than this gets no further
STOP_S: Final = 20.0  # for a run to end after it was asked to
INTERRUPTED: Final = 130  # exit status of a command that SIGINT ended
QUIET_S: Final = 0.3  # after a run is over, for messages that are still on their way


def demo(
    source: Annotated[
        str | None, typer.Option(help="Watch this instead of the demo's own clip: an RTSP address, a file, or 0.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for what the demo writes.")] = Path("demo-out"),
    seconds: Annotated[
        float, typer.Option(min=1, help="How long to watch --source; the demo's own clip runs to its end.")
    ] = 30.0,
    keep: Annotated[bool, typer.Option("--keep", help="Then go on, with the page, until ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json instead of a table.")] = False,
) -> None:
    """Watch a clip, or --source, in real time and tell what was seen, when, how sure; and show it on a page.

    The clip shows photographs of real people and things. One person is enrolled before it starts, another half-way:
    she is unknown before and has a name after.

    Example: trunkline demo --source rtsp://camera.local/stream --seconds 60

    Example: trunkline demo --keep
    """
    model = load_model(ModelSettings().path)
    model.require(USUAL_TASKS, "demo")
    console = Console(stderr=as_json)
    _clear(out)
    half_time = None
    if source is None:
        _render(out, console)
        _wait_for(_enroll(BEFORE, out))
        console.print(f"Enrolled {BEFORE.person} from {BEFORE.path.name}.")
        half_time = _HalfTime(out)
    else:
        Gallery(out / GALLERY_FILE, model.fingerprint).close()  # for who is named on the page
    address, page = _free_address(), _free_address() if importlib.util.find_spec("litestar") is not None else None
    _write_config(out, source, address, page)
    console.print(f"Running. Join in with: trunkline subscribe tcp://{address}")
    console.print(
        "No page: it needs pip install '.[web]'." if page is None else f"The page, in some seconds: http://{page}"
    )
    sightings = _watch(out, f"tcp://{address}", source, CLIP_LIMIT_S if source is None else seconds, half_time)
    shown = redact(source or str(out / "clip.mp4"))
    summary = summarise(out / "run.json", STREAM, shown, sightings, half_time.enrolment if half_time else None)
    _present(out, summary, console, as_json)
    if keep:
        _write_config(out, source, address, page, keep=True)
        _go_on(out, source, console, page)


class _HalfTime:
    """Enrols a person once the clip is half over, while the run goes on."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._started: datetime | None = None
        self._process: subprocess.Popen[str] | None = None
        self.enrolment: LiveEnrolment | None = None  # once it is done

    def advance(self, message: Message) -> None:
        """Start enrolling when it is time, notice when it is done. Raises StageError when it failed."""
        if self._started is None or self._process is None:
            if isinstance(message, FrameMessage) and message.seq >= RATE * SECONDS / 2:
                self._started, self._process = datetime.now(UTC), _enroll(LIVE, self._out)
        elif self.enrolment is None and self._process.poll() is not None:
            self.enrolment = LiveEnrolment(str(LIVE.person), self._started, datetime.now(UTC))
            _wait_for(self._process)


def _clear(out: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    out.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    names = ("clip.mp4", "truth.json", f"{GALLERY_FILE}*", "run.*", "recording/*.mp4", "messages.jsonl")
    kept = ("events/events.sqlite*", "events/clips/*")
    results = ("annotated.mp4", "contact_sheet.png", "summary.json")
    for name in (*names, *kept, *results):
        for path in out.glob(name):
            path.unlink()


def _render(out: Path, console: Console) -> None:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Rendering the clip", total=FRAMES)
        render(out / "clip.mp4", out / "truth.json", lambda: progress.advance(task))
    console.print(f"Rendered {out / 'clip.mp4'}: {SECONDS} s, {RATE} frames/s.")


def _enroll(photo: Photograph, out: Path) -> "subprocess.Popen[str]":
    command = (*TRUNKLINE, "enroll", str(photo.person), str(photo.path), "--gallery", str(out / GALLERY_FILE))
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_for(process: "subprocess.Popen[str]") -> None:
    """Wait for a command. Raises StageError with what it said when it failed."""
    said, _ = process.communicate()
    if process.returncode:
        raise StageError(f"trunkline enroll failed: {_last_line(said)}")


def _last_line(said: str) -> str:
    """What a command that failed said in the end; log lines come before it."""
    return (said.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")


def _free_address() -> str:
    """A place on this host that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _write_config(out: Path, source: str | None, address: str, page: str | None, keep: bool = False) -> None:
    """Write the run's configuration.

    Args:
        out: folder of the demo.
        source: None: the demo's own clip.
        address: on which it publishes.
        page: where it is served; None: nowhere.
        keep: whether it goes on until it is stopped, and records nothing.
    """
    written = source or str(out / "clip.mp4")
    if redact(written) != written:  # a password stays in the environment
        written = f"${{{SOURCE_VARIABLE}}}"
    loop = keep and (source is None or Path(source).is_file())
    (out / "run.toml").write_text(
        f'[[streams]]\nname = "{STREAM}"\nsource = {_quoted(written)}\npace = "realtime"\n'
        f"loop = {str(loop).lower()}\n\n"
        f"[identity]\ngallery = {_quoted(out / GALLERY_FILE)}\n\n"
        f'[publish]\naddress = "tcp://{address}"\n'
        + ("" if keep else _recording(out))
        + ("" if page is None else _page(out, page)),
        encoding="utf-8",
    )


def _recording(out: Path) -> str:
    return (
        f"\n[record]\ndirectory = {_quoted(out / 'recording')}\n"
        f"segment_s = {ONE_VIDEO_S}\nmin_free_gb = {MIN_FREE_GB}\n"
    )


def _page(out: Path, page: str) -> str:
    return (
        f'\n[web]\naddress = "{page}"\naccounts = {_quoted(out / "accounts.sqlite")}\n\n'
        f'[events]\nbest_crops = true\n\n[[sinks]]\nkind = "store"\ndirectory = {_quoted(out / "events")}\n'
        f"clips = true\nmin_free_gb = {MIN_FREE_GB}\n"
    )


def _quoted(value: str | Path) -> str:
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML string, too


def _go_on(out: Path, source: str | None, console: Console, page: str | None) -> None:
    """Run until ctrl-C, or until it ends by itself. Raises StageError when it fails."""
    console.print(f"Still running{'' if page is None else f', with the page on http://{page}'}: ctrl-C ends it.")
    with _running(out, source, ()) as run, suppress(KeyboardInterrupt):
        run.wait()


def _watch(out: Path, address: str, source: str | None, seconds: float, half_time: _HalfTime | None) -> Sightings:
    """Run the pipeline in a process of its own, and write down every message that comes from it."""
    sightings = Sightings()
    with (
        (out / "messages.jsonl").open("wb") as lines,
        Subscriber(address) as subscriber,
        _running(out, source, ("--wait-for-subscriber", f"{START_S:.0f}")) as run,
    ):
        for message in _messages(subscriber, run, seconds):
            lines.write(msgspec.json.encode(message) + b"\n")
            if isinstance(message, FrameMessage):
                sightings.see(message)
            if half_time is not None:
                half_time.advance(message)
    return sightings


@contextmanager
def _running(out: Path, source: str | None, options: Sequence[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """The run; it is over when the block is left. Raises StageError when it failed by itself."""
    command = (*TRUNKLINE, "run", str(out / "run.toml"), "--summary", str(out / "run.json"))
    # Also where a shell lets it ignore ctrl-C: whatever ends the demo ends the run.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    with (out / "run.log").open("wb") as log:
        run = subprocess.Popen(
            (*command, *options),
            stdout=log,
            stderr=log,
            env=os.environ | ({SOURCE_VARIABLE: source} if source is not None else {}),
            start_new_session=True,  # ctrl-C comes to the demo alone, which then ends the run
        )
    try:
        yield run
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
        try:
            run.wait(STOP_S)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    if run.returncode not in (0, INTERRUPTED) or not (out / "run.json").is_file():
        said = _last_line((out / "run.log").read_text(errors="replace"))
        raise StageError(f"the run failed with exit status {run.returncode}: {said} (more in {out / 'run.log'})")


def _messages(subscriber: Subscriber, run: "subprocess.Popen[bytes]", seconds: float) -> Iterator[Message]:
    """All messages of a run, which is asked to end after so many seconds from the first one, or by ctrl-C."""
    end = time.monotonic() + START_S + seconds
    heard = asked = False
    while True:
        try:
            message = subscriber.receive(QUIET_S)
        except KeyboardInterrupt:
            end, message = -math.inf, None
        if message is not None:
            end = end if heard else time.monotonic() + seconds
            heard = True
            yield message
        elif run.poll() is not None:
            return
        if time.monotonic() > end:
            if asked:
                return
            run.send_signal(signal.SIGINT)
            asked, end = True, time.monotonic() + STOP_S


def _present(out: Path, summary: DemoSummary, console: Console, as_json: bool) -> None:
    """Write the results and show them; the exit status is 1 when the books do not balance."""
    (out / "summary.json").write_text(json_of(summary))
    folder = out / "recording"
    if folder.is_dir() and (recorded := segments(folder)):
        contact_sheet(recorded[0].path.rename(out / "annotated.mp4"), out / "contact_sheet.png")
    if as_json:
        print_json(summary)
    console.print(sightings_table(summary))
    dropped = ", ".join(f"{count} {cause}" for cause, count in summary.dropped.items()) or "none"
    console.print(f"Frames: {summary.captured} captured = {summary.published} published + dropped ({dropped}).")
    if summary.enrolled_live_at_s is not None:
        named = "never named" if summary.named_after_s is None else f"named {summary.named_after_s:.1f} s later"
        console.print(f"{LIVE.person} was enrolled at {summary.enrolled_live_at_s:.1f} s and {named}.")
    console.print(f"Look at what is in {out}: contact_sheet.png, annotated.mp4, messages.jsonl, summary.json.")
    if not summary.balanced:
        console.print("The books do not balance: frames were lost without a cause.", style="bold red")
        raise typer.Exit(1)
