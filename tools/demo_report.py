"""What the demo tells of a run: what was seen, when, how sure; the books; a contact sheet."""

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import av
import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table

from pipeline.wire.messages import FrameMessage, TimingsMessage

Kind = Literal["person", "object", "scene"]

TILES: Final = 16
COLUMNS: Final = 4
TILE_WIDTH: Final = 480  # pixels


class Sighting(msgspec.Struct, frozen=True):
    """One name or label over the whole run. Times are seconds since the first frame."""

    first_seen_s: float
    last_seen_s: float
    frames: int
    mean_score: float


class LatencyPercentiles(msgspec.Struct, frozen=True):
    """Milliseconds that half, 90 % and 99 % of the frames stayed within."""

    p50: float
    p90: float
    p99: float


class DemoSummary(msgspec.Struct, frozen=True, kw_only=True):
    """``summary.json``."""

    source: str
    captured: int
    published: int
    dropped: dict[str, int]  # by cause
    received: int  # frame messages that reached the demo's own subscriber
    identities: dict[str, Sighting]
    unknown_faces: Sighting | None
    objects: dict[str, Sighting]
    scenes: dict[str, Sighting]
    enrolled_live_at_s: float | None
    named_after_s: float | None  # from the end of that enrolment to the first frame with the name
    stages_ms: dict[str, LatencyPercentiles]

    @property
    def balanced(self) -> bool:
        """Every captured frame was published or dropped for a cause."""
        return self.captured == self.published + sum(self.dropped.values())


@dataclass(slots=True)
class _Tally:
    first_s: float
    last_s: float = 0.0
    scores: list[float] = field(default_factory=list)

    def sighting(self) -> Sighting:
        mean = round(statistics.fmean(self.scores), 3)
        return Sighting(round(self.first_s, 3), round(self.last_s, 3), len(self.scores), mean)


class Sightings:
    """Collects what frame messages say, in the order in which they come."""

    def __init__(self) -> None:
        self.frames = 0
        self._began: datetime | None = None
        self._tallies: dict[tuple[Kind, str | None], _Tally] = {}
        self._timings: list[TimingsMessage] = []

    def see(self, message: FrameMessage) -> None:
        """Take one frame in. A label counts once a frame, with its best score."""
        time_s = self.elapsed_s(datetime.fromisoformat(message.captured_at))
        self.frames += 1
        self._timings.append(message.timings_ms)
        best: defaultdict[tuple[Kind, str | None], float] = defaultdict(float)
        for thing in message.objects:
            best["object", thing.label] = max(best["object", thing.label], thing.score)
        for face in message.faces:
            name, score = (None, face.score) if face.identity is None else (face.identity.name, face.identity.score)
            best["person", name] = max(best["person", name], score)
        for scene in message.scene[:1]:
            best["scene", scene.label] = scene.score
        for key, score in best.items():
            tally = self._tallies.setdefault(key, _Tally(time_s))
            tally.last_s = time_s
            tally.scores.append(score)

    def elapsed_s(self, moment: datetime) -> float:
        """Seconds since the first frame."""
        self._began = self._began or moment
        return (moment - self._began).total_seconds()

    def named(self, kind: Kind) -> dict[str, Sighting]:
        """All names or labels of a kind, in the order in which they were first seen."""
        return {name: tally.sighting() for (of, name), tally in self._tallies.items() if of == kind and name}

    @property
    def unknown_faces(self) -> Sighting | None:
        """Faces without a name."""
        tally = self._tallies.get(("person", None))
        return tally.sighting() if tally else None

    def stages_ms(self) -> dict[str, LatencyPercentiles]:
        """Where a frame's time went, by stage."""
        if not self._timings:
            return {}
        table = np.array([msgspec.structs.astuple(timings) for timings in self._timings])
        values = np.percentile(table, (50, 90, 99), axis=0).round(2).T.tolist()
        return {
            name: LatencyPercentiles(*row) for name, row in zip(TimingsMessage.__struct_fields__, values, strict=True)
        }


class _Books(msgspec.Struct, frozen=True):
    captured: int
    published: int
    dropped: dict[str, int]


class _RunSummary(msgspec.Struct, frozen=True):
    """What this page needs of the file that ``trunkline run --summary`` writes."""

    streams: dict[str, _Books]


@dataclass(frozen=True, slots=True)
class LiveEnrolment:
    """Who was enrolled while the run went on, and when."""

    person: str
    started: datetime
    ended: datetime

    def named_after_s(self, first_named_s: float, sightings: Sightings) -> float:
        """From the end of the enrolment to the first frame with the name; negative for a name before there was one."""
        started_s, ended_s = sightings.elapsed_s(self.started), sightings.elapsed_s(self.ended)
        # The gallery has the person a moment before the command that enrols her is over.
        return first_named_s - ended_s if first_named_s < started_s else max(0.0, first_named_s - ended_s)


def summarise(
    run: Path, stream: str, source: str, sightings: Sightings, enrolment: LiveEnrolment | None
) -> DemoSummary:
    """Put together what a run said of itself and what was seen from outside.

    Args:
        run: the file that ``trunkline run --summary`` wrote.
        stream: the name of the stream in it.
        source: what was watched, without its password.
        sightings: what the messages said.
        enrolment: of the person who was enrolled meanwhile, if any.
    """
    books = msgspec.json.decode(run.read_bytes(), type=_RunSummary).streams[stream]
    identities = sightings.named("person")
    live = identities.get(enrolment.person) if enrolment else None
    return DemoSummary(
        source=source,
        captured=books.captured,
        published=books.published,
        dropped=books.dropped,
        received=sightings.frames,
        identities=identities,
        unknown_faces=sightings.unknown_faces,
        objects=sightings.named("object"),
        scenes=sightings.named("scene"),
        enrolled_live_at_s=round(sightings.elapsed_s(enrolment.ended), 3) if enrolment else None,
        named_after_s=round(enrolment.named_after_s(live.first_seen_s, sightings), 3) if enrolment and live else None,
        stages_ms=sightings.stages_ms(),
    )


def sightings_table(summary: DemoSummary) -> Table:
    """What was seen, when, how sure."""
    table = Table(title="What was seen", title_justify="left")
    for heading in ("", "what"):
        table.add_column(heading)
    for heading in ("first", "last", "frames", "mean score"):
        table.add_column(heading, justify="right")
    unknown = {"unknown": summary.unknown_faces} if summary.unknown_faces else {}
    groups = (("face", summary.identities | unknown), ("object", summary.objects), ("scene", summary.scenes))
    for kind, sightings in groups:
        for name, seen in sorted(sightings.items(), key=lambda item: item[1].first_seen_s):
            times = f"{seen.first_seen_s:.1f} s", f"{seen.last_seen_s:.1f} s"
            table.add_row(kind, name, *times, str(seen.frames), f"{seen.mean_score:.2f}")
        table.add_section()
    return table


def contact_sheet(video: Path, sheet: Path) -> None:
    """Write a picture with 16 frames of a video (fewer if it has fewer), evenly spread over it, each with its time."""
    tiles = [_tile(pixels, time_s) for pixels, time_s in _spread(video, TILES)]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(sheet), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _spread(video: Path, count: int) -> list[tuple[npt.NDArray[np.uint8], float]]:
    """At most ``count`` frames, each the first of its share of the video's time."""
    found: list[tuple[npt.NDArray[np.uint8], float]] = []
    with av.open(str(video)) as container:
        share_s = max(1, container.duration or 0) / av.time_base / count
        next_s = 0.0
        for frame in container.decode(video=0):
            if frame.time >= next_s:
                found.append((np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), frame.time))
                next_s = (math.floor(frame.time / share_s) + 1) * share_s
    return found


def _tile(pixels: npt.NDArray[np.uint8], time_s: float) -> npt.NDArray[np.uint8]:
    height = round(TILE_WIDTH * pixels.shape[0] / pixels.shape[1])
    tile = np.asarray(cv2.resize(pixels, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
    cv2.rectangle(tile, (TILE_WIDTH - 78, 0), (TILE_WIDTH, 26), (16, 18, 22), cv2.FILLED)
    cv2.putText(tile, f"{time_s:.1f} s", (TILE_WIDTH - 68, 19), (250, 250, 250), cv2.FontFace("sans"), 16, 500)
    return tile
