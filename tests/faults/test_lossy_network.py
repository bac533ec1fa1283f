"""RTSP over a bad network: datagrams that are lost, and segments of TCP that come late, by a seed."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from pipeline.frames.types import Frame, Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from tests.faults.made_mutations import SEED
from tests.faults.made_rtsp import RATE, RtspServer, StallingProxy, units_of

SECONDS: Final = 3.0
LONG_S: Final = 60.0
LATE_S: Final = 0.2  # after which Linux sends a lost segment again, at the least
SHARES: Final = (0.01, 0.05, 0.2)
UNITS: Final = units_of(40)


class Seen:
    """What a capture of some seconds gave."""

    def __init__(self, address: str, transport: str, seconds: float) -> None:
        self.reports: list[Health] = []
        self.lost: Counter[str] = Counter()
        stop = threading.Event()
        settings = StreamSettings(name="door", source=address, transport=transport, timeout_s=2.0)  # type: ignore[arg-type]
        frames: Iterator[Frame] = capture(
            settings,
            stop=stop,
            health=self.reports.append,
            first_seq=0,
            lost=lambda count, cause: self.lost.update({cause: count}),
        )
        alarm = threading.Timer(seconds + 10.0, stop.set)
        alarm.start()
        try:
            self.frames: list[Frame] = []
            began_s = None
            for frame in frames:
                began_s = began_s or time.monotonic()
                self.frames.append(frame)
                if time.monotonic() - began_s >= seconds:
                    stop.set()
        finally:
            alarm.cancel()

    @property
    def downs(self) -> list[str]:
        return [report.cause for report in self.reports if report.state == "down"]


def check(seen: Seen, seconds: float, at_least: float) -> None:
    """Frames went on, each with a number of its own, and numbers that are missing were counted as lost."""
    numbers = [frame.seq for frame in seen.frames]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] + 1 - len(numbers) <= seen.lost.total()
    assert len(numbers) >= at_least * RATE * seconds
    assert set(seen.lost) <= {"damaged", "undecodable"}


def lossy(share: float, seconds: float) -> Seen:
    chance = random.Random(SEED)
    with RtspServer(UNITS, packet=lambda data: b"" if chance.random() < share else data) as server:
        return Seen(server.address, "udp", seconds)


def stalling(share: float, seconds: float) -> Seen:
    chance = random.Random(SEED)
    with (
        RtspServer(UNITS) as server,
        StallingProxy(server.port, lambda: LATE_S if chance.random() < share else 0.0) as proxy,
    ):
        return Seen(f"rtsp://127.0.0.1:{proxy.port}/live", "tcp", seconds)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_good_network_loses_nothing(transport: str) -> None:
    with RtspServer(UNITS) as server:
        seen = Seen(server.address, transport, 1.0)
    check(seen, 1.0, 0.5)
    assert seen.lost.total() == 0 and not seen.downs


@pytest.mark.parametrize("share", SHARES)
def test_lost_datagrams_cost_pictures_and_no_connection(share: float) -> None:
    seen = lossy(share, SECONDS)
    check(seen, SECONDS, 0.05)
    assert not seen.downs


@pytest.mark.parametrize("share", SHARES)
def test_late_segments_cost_time_and_no_picture(share: float) -> None:
    seen = stalling(share, SECONDS)
    check(seen, SECONDS, 0.1)
    assert seen.lost.total() == 0 and not seen.downs


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_a_bad_network_for_a_minute(share: float) -> None:
    check(lossy(share, LONG_S), LONG_S, 0.05)
    check(stalling(share, LONG_S), LONG_S, 0.1)
