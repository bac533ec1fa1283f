"""Read every clip of a folder and compare it with what ffprobe and ffmpeg say of it.

python tests/field/sweep.py DIR [--csv FILE] [--jobs 2]

Compared are the number of frames, the duration, the size as displayed, and the mean colour of a few frames with that of
ffmpeg's own picture. A clip whose every frame is shown, or is told to be missing with its cause, is "ok"; exit status 1
where one is not. Nothing is written but the table.
"""

import argparse
import csv
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from engines.arrays import Pixels
from engines.errors import TrunklineError
from pipeline.frames.types import Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture

SAMPLED = 3  # frames of a clip whose colour is compared
COLOUR = 2.0  # grey levels that a mean may differ by: rounding, not another matrix or range
PATIENCE_S = 120.0  # for ffmpeg and ffprobe


@dataclass(frozen=True, slots=True)
class Told:
    """What ffprobe and ffmpeg say of a clip."""

    frames: int
    duration_s: float | None  # None: its time stamps are not sane, so that nobody knows
    size: tuple[int, int] | None  # as displayed
    colours: dict[int, Pixels]  # by the number of the frame, mean RGB


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


def ask(*command: str) -> bytes:
    """Return what a command prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).stdout


def told_of(clip: Path) -> Told:
    """Ask ffprobe and ffmpeg."""
    entries = "stream=index,width,height,sample_aspect_ratio:stream_side_data=rotation:stream_disposition=default"
    answer = ask(
        *("ffprobe", "-v", "error", "-select_streams", "V", "-count_frames", "-show_entries"),
        *(f"{entries}:frame=stream_index,best_effort_timestamp_time", "-of", "json", str(clip)),
    )
    found: dict[str, Any] = json.loads(answer or b"{}")
    stream = max(found.get("streams", []), key=_preference, default={"index": -1})
    frames = [frame for frame in found.get("frames", []) if frame["stream_index"] == stream["index"]]
    if not frames:
        return Told(0, None, None, {})
    return Told(len(frames), _duration(frames), _size(stream), _colours(clip, len(frames), stream["index"]))


def _preference(stream: dict[str, Any]) -> tuple[int, int, int]:
    """Which video a player would show of several: the default one, the largest, the first."""
    area = stream.get("width", 0) * stream.get("height", 0)
    return stream["disposition"]["default"], area, -stream["index"]


def _duration(frames: list[dict[str, str]]) -> float | None:
    """From the first frame to the end of the last, where each is later than the one before, by no leap."""
    times = [float(frame["best_effort_timestamp_time"]) for frame in frames if "best_effort_timestamp_time" in frame]
    steps = np.diff(times)
    if len(times) < len(frames) or len(times) < 2 or (steps <= 0).any() or steps.max() > 10 * np.median(steps):
        return None
    return times[-1] - times[0] + float(np.median(steps))


def _size(stream: dict[str, Any]) -> tuple[int, int]:
    width, height = int(stream["width"]), int(stream["height"])
    across, down = (int(side) for side in stream.get("sample_aspect_ratio", "1:1").split(":"))
    if across > 0 and down > 0:
        width = round(width * across / down)
    turned = any(abs(int(side.get("rotation", 0))) % 180 == 90 for side in stream.get("side_data_list", []))
    return (height, width) if turned else (width, height)


def _sampled(count: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, count - 1, SAMPLED)})


def _colours(clip: Path, count: int, index: int) -> dict[int, Pixels]:
    wanted = _sampled(count)
    chosen = "+".join(f"eq(n\\,{number})" for number in wanted)
    # The chroma is halved as ours is, and cropped to the pixel. The area filter rounds to nothing that would be seen.
    filters = f"select='{chosen}',format=yuv420p,scale=16:16:flags=area+accurate_rnd+full_chroma_int"
    pixels = ask(
        *("ffmpeg", "-v", "quiet", "-flags", "unaligned", "-i", str(clip), "-map", f"0:{index}", "-vf", filters),
        *("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    )
    pictures = np.frombuffer(pixels[: len(pixels) // 768 * 768], np.uint8).reshape(-1, 16, 16, 3)
    return {number: picture.mean((0, 1)) for number, picture in zip(wanted, pictures, strict=False)}


def read(clip: Path, told: Told) -> Row:
    """Read a clip as a run does, and compare."""
    missed: Counter[str] = Counter()
    reports: list[Health] = []
    shown, last_s, previous_s, size, gap = 0, 0.0, 0.0, (0, 0), 0.0
    settings = StreamSettings(name="clip", source=str(clip), timeout_s=30.0)
    frames = capture(
        settings,
        stop=threading.Event(),
        health=reports.append,
        lost=lambda count, cause: missed.update({cause: count}),
    )
    for frame in frames:
        if (expected := told.colours.get(frame.seq)) is not None:
            gap = max(gap, float(np.abs(frame.picture.rgb().mean((0, 1)) - expected).max()))
        shown, previous_s, last_s = shown + 1, last_s, frame.time_s
        size = size if shown > 1 else (frame.picture.width, frame.picture.height)  # as ffprobe, which tells the first
    end = reports[-1].cause if reports else "nothing was told"
    duration_s = last_s + (last_s - previous_s if shown > 1 else 0.0)
    row = Row(
        clip.name,
        "",
        shown,
        told.frames,
        ", ".join(f"{count} {cause}" for cause, count in missed.items()),
        round(duration_s, 3),
        None if told.duration_s is None else round(told.duration_s, 3),
        f"{size[0]}x{size[1]}",
        round(gap, 1),
        end,
    )
    return Row(row.clip, _verdict(row, told, size), *astuple(row)[2:])


def _verdict(row: Row, told: Told, size: tuple[int, int]) -> str:
    differs = []
    if row.frames < told.frames and not row.missed:
        differs.append("frames are missing silently")
    if row.frames > told.frames:
        differs.append("more frames than ffmpeg has")
    told_size = told.size or size
    if row.frames and any(abs(ours - theirs) > 2 for ours, theirs in zip(size, told_size, strict=True)):
        differs.append(f"size should be {told_size[0]}x{told_size[1]}")
    if told.duration_s is not None and not row.missed and abs(row.duration_s - told.duration_s) > _slack_s(told):
        differs.append("duration")
    if row.colour_gap > COLOUR and not row.missed:
        differs.append("colour")
    return "; ".join(differs) or "ok"


def _slack_s(told: Told) -> float:
    """One normal step, for what the last frame's own length is."""
    return 1.2 * (told.duration_s or 0.0) / max(1, told.frames) + 0.01


def swept(clips: list[Path], jobs: int = 2) -> Iterator[Row]:
    """Yield the row of each clip, in order; ffmpeg works on the next ones meanwhile."""
    with ThreadPoolExecutor(jobs) as pool:
        for clip, told in zip(clips, pool.map(told_of, clips), strict=True):
            try:
                yield read(clip, told)
            except TrunklineError as error:  # of an address that is none: as a run would refuse it
                verdict = "ok" if told.frames == 0 else "refused"
                yield Row(clip.name, verdict, 0, told.frames, "", 0.0, told.duration_s, "", 0.0, str(error))
            except Exception as error:  # a fault of ours: it is one of the table, not the end of it
                yield Row(clip.name, f"raised {error!r}", 0, told.frames, "", 0.0, told.duration_s, "", 0.0, "")


def main() -> int:
    """Sweep the folder of the command line."""
    parser = argparse.ArgumentParser(description="Compare how clips are read with what ffprobe and ffmpeg say.")
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
