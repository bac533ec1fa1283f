"""The harness of the page's load, for some seconds: what it measures for minutes holds for a moment, too."""

from pathlib import Path

import pytest

from tests.field.page_load import day

pytestmark = pytest.mark.integration


def test_a_short_day_loses_no_event_and_the_server_does_not_grow(tmp_path: Path) -> None:
    held = day(tmp_path, streams=2, events=200, seconds=4.0, browser=False, every_s=2.0)
    assert len(held) >= 2
    assert held[-1].server - held[0].server < 20e6
