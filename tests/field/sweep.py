"""Read every clip of a folder and compare it with what ffmpeg makes of it.

python tests/field/sweep.py DIR [--csv FILE] [--jobs 2]

Compared are the number of frames, the duration, the size as displayed, and the mean colour of a few frames with that of
ffmpeg's own picture. A clip whose every frame is shown, or is told to be missing with its cause, is "ok"; exit status 1
where one is not. Nothing is written but the table.
"""

import argparse
import csv
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path

import cv2
import numpy as np

from engines.arrays import Pixels
from engines.errors import TrunklineError
from pipeline.frames.picture import Picture
from pipeline.frames.types import Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture

SAMPLED = 3  # frames of a clip whose colour is compared
COLOUR = 3.0  # grey levels that a mean may differ by: rounding, not another matrix or range
SMALL = 64  # pixels; of pictures with a shorter side the mean of ffmpeg's own scaler is off by more
SHORTEST_S = 0.002  # between two frames; what is shorter is no rate of theirs
PATIENCE_S = 120.0  # for ffmpeg
# A frame as showinfo tells it: its time, the aspect of its pixels, its size.
SHOWN = re.compile(r"n: *\d+ pts:.*? pts_time:(\S+) .*?sar:(\d+)/(\d+) s:(\d+)x(\d+)")
COVER = re.compile(r"Stream #0:(\d+)\b[^\n]*\(attached pic\)(?s:.*)Stream #0:\1 -> #0:0")  # of a song: no video


Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Told:
    """What ffmpeg says of a clip."""

    frames: int = 0
    duration_s: float | None = None  # None: its time stamps are not sane, so that nobody knows
    sizes: tuple[tuple[Size, Size], ...] = ()  # of each frame, as displayed: with its height as it is, and its width
    colours: dict[int, Pixels] = field(default_factory=dict)  # by the number of the frame, mean RGB
    late: bool = False  # it took longer than PATIENCE_S, so that there is nothing to compare with


@dataclass(frozen=True, slots=True)
class Row:
    """A clip in the table."""

    clip: str
    verdict: str  # "ok", or what differs
    frames: int
    told_frames: int
    missed: str  # pictures that were not shown, by cause
    duration_s: float
    told_duration_s: float | None
    size: str
    colour_gap: float
    end: str  # what the stream's last word was


def told_of(clip: Path) -> Told:
    """Ask ffmpeg: for the place, the size and the time of each frame, and for its picture in 16x16 pixels."""
    # The chroma is halved as ours is, and cropped to the pixel.
    filters = "showinfo,format=yuv420p,scale=16:16:flags=area+accurate_rnd+full_chroma_int"
    command = [
        *("ffmpeg", "-hide_banner", "-nostats", "-nostdin", "-flags", "unaligned", "-i", str(clip.absolute())),
        *("-an", "-sn", "-dn", "-vf", filters, "-fps_mode", "passthrough", "-f", "rawvideo"),
        *("-pix_fmt", "rgb24", "-"),
    ]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Told(late=True)
    said = answer.stderr.decode(errors="replace")
    shown = [match.groups() for match in SHOWN.finditer(said)]
    if not shown or COVER.search(said):
        return Told()
    times = [float(time) for time, *_ in shown if time != "NOPTS"]
    sizes = tuple(_displayed(*map(int, numbers)) for _, *numbers in shown)
    pixels = answer.stdout[: len(answer.stdout) // 768 * 768]
    pictures = np.frombuffer(pixels, np.uint8).reshape(-1, 16, 16, 3)
    colours = {number: pictures[number].mean((0, 1)) for number in _sampled(len(shown)) if number < len(pictures)}
    return Told(len(shown), _duration(times) if len(times) == len(shown) else None, sizes, colours)


def _displayed(across: int, down: int, width: int, height: int) -> tuple[Size, Size]:
    """The size in square pixels; of a picture that is turned after they were made square, the width is as it was."""
    if across <= 0 or down <= 0:
        return (width, height), (width, height)
    return (round(width * across / down), height), (width, round(height * down / across))


def _duration(times: list[float]) -> float | None:
    """From the first frame to the end of the last, where each is later than the one before, by no leap."""
    steps = np.diff(times)
    if len(times) < 2 or (steps <= 0).any() or not SHORTEST_S < np.median(steps) >= steps.max() / 10:
        return None
    return times[-1] - times[0] + float(np.median(steps))


def _sampled(count: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, count - 1, SAMPLED)})


def read(clip: Path, told: Told) -> Row:
    """Read a clip as a run does, and compare."""
    missed: Counter[str] = Counter()
    reports: list[Health] = []
    gap, times = 0.0, list[float]()
    size, told_sizes = (0, 0), tuple[Size, ...]()
    settings = StreamSettings(name="clip", source=str(clip), timeout_s=30.0)
    frames = capture(
        settings,
        stop=threading.Event(),
        health=reports.append,
        lost=lambda count, cause: missed.update({cause: count}),
    )
    for frame in frames:
        if (expected := told.colours.get(frame.seq)) is not None:
            gap = max(gap, float(np.abs(_colour(frame.picture) - expected).max()))
        times.append(frame.time_s)
        if len(times) == 1:
            size = (frame.picture.width, frame.picture.height)
            told_sizes = told.sizes[frame.seq] if frame.seq < len(told.sizes) else (size,)
    end = reports[-1].cause if reports else "nothing was told"
    duration_s = times[-1] + float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    row = Row(
        clip.name,
        "",
        len(times),
        told.frames,
        ", ".join(f"{count} {cause}" for cause, count in missed.items()),
        round(duration_s, 3),
        None if told.duration_s is None else round(told.duration_s, 3),
        f"{size[0]}x{size[1]}",
        round(gap, 1),
        end,
    )
    return Row(row.clip, _verdict(row, told, size, told_sizes), *astuple(row)[2:])


def _colour(picture: Picture) -> Pixels:
    """Mean RGB as ffmpeg has it: shrunk before it is converted, since what is out of range is cut off."""
    luma, *chroma = (cv2.resize(plane, (16, 16), interpolation=cv2.INTER_AREA) for plane in picture.planes)
    planes = (luma.repeat(2, 0).repeat(2, 1), *chroma)
    return replace(picture, planes=planes, width=32, height=32).rgb().mean((0, 1))


def _verdict(row: Row, told: Told, size: Size, told_sizes: tuple[Size, ...]) -> str:
    if not row.frames and told.frames and not row.missed:
        return "refused"
    differs = []
    if row.frames < told.frames and not row.missed:
        differs.append("frames are missing silently")
    if row.frames > told.frames:
        differs.append("more frames than ffmpeg has")
    if row.frames and all(max(abs(size[0] - width), abs(size[1] - height)) > 2 for width, height in told_sizes):
        differs.append(f"size should be {told_sizes[0][0]}x{told_sizes[0][1]}")
    if told.duration_s is not None and not row.missed and abs(row.duration_s - told.duration_s) > _slack_s(told):
        differs.append("duration")
    if row.colour_gap > COLOUR and not row.missed and min(size) >= SMALL:
        differs.append("colour")
    return "; ".join(differs) or "ok"


def _slack_s(told: Told) -> float:
    """One normal step, for what the last frame's own length is."""
    return 1.2 * (told.duration_s or 0.0) / max(1, told.frames) + 0.01


def swept(clips: list[Path], jobs: int = 2) -> Iterator[Row]:
    """Yield the row of each clip, in order; ffmpeg works on the next ones meanwhile."""
    with ThreadPoolExecutor(jobs) as pool:
        for clip, told in zip(clips, pool.map(told_of, clips), strict=True):
            if told.late:
                yield Row(clip.name, "ffmpeg takes too long", 0, 0, "", 0.0, None, "", 0.0, "")
                continue
            try:
                yield read(clip, told)
            except TrunklineError as error:  # of an address that is none: as a run would refuse it
                verdict = "ok" if told.frames == 0 else "refused"
                yield Row(clip.name, verdict, 0, told.frames, "", 0.0, told.duration_s, "", 0.0, str(error))
            except Exception as error:  # a fault of ours: it is one of the table, not the end of it
                yield Row(clip.name, f"raised {error!r}", 0, told.frames, "", 0.0, told.duration_s, "", 0.0, "")


def main() -> int:
    """Sweep the folder of the command line."""
    parser = argparse.ArgumentParser(description="Compare how clips are read with what ffmpeg says.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--csv", type=Path, help="write the table here, too")
    parser.add_argument("--jobs", type=int, default=2, help="clips that ffmpeg looks at meanwhile")
    options = parser.parse_args()
    clips = sorted(path for path in options.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not clips:
        parser.error(f"{options.folder} has no files in it")
    rows = []
    for row in swept(clips, options.jobs):
        rows.append(row)
        print(
            f"{row.verdict:>4}  {row.frames:6} of {row.told_frames:6}  {row.size:>10}  {row.clip}  {row.missed}",
            flush=True,
        )
    bad = sum(row.verdict != "ok" for row in rows)
    print(f"{len(rows) - bad} of {len(rows)} clips are read as ffmpeg reads them")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(Row)])
            writer.writerows(map(astuple, rows))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
