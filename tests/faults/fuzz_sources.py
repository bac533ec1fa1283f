"""Read damaged sources in a process of its own, which a crash of FFmpeg would end: ``python fuzz_sources.py KIND``.

Prints ``{"read": N, "refused": N, "frames": N, "longest_s": S, "memory_mb": M}``.
"""

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

from engines.errors import SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.av import VideoSource
from pipeline.sources.base import Decoded, Incomplete
from tests.faults.made_mutations import SEED, TIMES, mutations
from tests.faults.made_rtsp import Change, RtspServer, units_of
from tests.pipeline.made_clips import write_clip
from tools.benchmarking.processes import usage

AT_ONCE: Final = 8
GIVEN: Final = 30  # pictures, or losses, after which a source was read long enough
TIMEOUT_S: Final = 0.5
LIVE_S: Final = 1.0  # that a live source is read
COUNTS: Final = {"answers": 24, "sdp": 24, "rtp": 16, "h264": 40, "hevc": 40}
HEVC: Final = {"x265-params": "log-level=none:keyint=10:pools=1"}


def once_of(originals: Callable[[bytes], list[bytes]], count: int) -> list[Change]:
    """Changes, each of which gives one mutation of what it is given first; by SEED."""

    def made(seed: int) -> Change:
        def change(data: bytes) -> bytes:
            return next(mutations(originals(data), 1, seed))

        return change

    return [made(SEED + number) for number in range(count * TIMES)]


def noisy(number: int) -> Change:
    """Change every tenth packet of RTP, its head or what it carries, and leave some out or send rubbish in place."""
    chance = random.Random(SEED + number)

    def change(data: bytes) -> bytes:
        if chance.random() > 0.1:
            return data
        return chance.choice((b"", chance.randbytes(len(data)), next(mutations([data], 1, chance.randrange(2**32)))))

    return change


def read(source: str, transport: str = "tcp") -> tuple[str, int, float]:
    """Read a source as a run does; what became of it, its pictures, and how long it took."""
    began_s, frames, stop = time.monotonic(), 0, threading.Event()
    settings = StreamSettings(name="door", source=source, transport=transport, timeout_s=TIMEOUT_S)  # type: ignore[arg-type]
    try:
        with closing(VideoSource(settings).read(stop)) as given:
            for each in islice(given, GIVEN):
                frames += isinstance(each, Decoded)
                if time.monotonic() - began_s > LIVE_S and "://" in source:
                    break
        outcome = "read"
    except (SourceError, Incomplete) as error:
        assert "\n" not in str(error)
        outcome = "refused"
    return outcome, frames, time.monotonic() - began_s


def sources(kind: str, folder: Path) -> Iterator[Callable[[], tuple[str, int, float]]]:
    """What is to be read."""
    if kind in ("h264", "hevc"):
        codec, options = ("libx264", {"g": "10"}) if kind == "h264" else ("libx265", HEVC)
        clip = write_clip(folder / "clip.ts", 20, (160, 120), codec=codec, options=options).read_bytes()
        # Damage of its middle: few bytes of a long file would hardly ever matter.
        for number, content in enumerate(mutations([clip, clip[: len(clip) // 2]], COUNTS[kind], most=40)):
            path = folder / f"{number}.ts"
            path.write_bytes(content)
            yield lambda path=path: read(str(path))  # type: ignore[misc]
        return
    units = units_of(20)

    def served(transport: str, **changes: Change) -> tuple[str, int, float]:
        with RtspServer(units, **changes) as server:
            return read(server.address, transport)

    if kind == "rtp":
        for number in range(COUNTS[kind] * TIMES):
            yield lambda number=number: served(("tcp", "udp")[number % 2], packet=noisy(number))  # type: ignore[misc]
        return
    for number, change in enumerate(once_of(lambda data: [data], COUNTS[kind])):
        name = "sdp" if kind == "sdp" else "answer"
        yield lambda name=name, change=change, number=number: served(("tcp", "udp")[number % 2], **{name: change})  # type: ignore[misc]


def main(kind: str) -> None:
    """Read all of a kind, and print what became of it."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda each: each(), sources(kind, Path(folder))))
    outcomes = Counter(outcome for outcome, _, _ in found)
    memory_mb = usage(os.getpid()).peak_bytes / 2**20  # ru_maxrss begins with that of the process before
    print(
        json.dumps(
            {
                "read": outcomes["read"],
                "refused": outcomes["refused"],
                "frames": sum(frames for _, frames, _ in found),
                "longest_s": max(seconds for _, _, seconds in found),
                "memory_mb": memory_mb,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
