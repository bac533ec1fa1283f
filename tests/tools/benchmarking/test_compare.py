from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError
from tools.benchmarking.compare import MIN_CHANGE, compare, holm, judge, welch
from tools.benchmarking.figures import Spread
from tools.benchmarking.report import BenchmarkReport, begin, load
from tools.benchmarking.stages import DecodeFigures
from tools.benchmarking.streams import StreamsReport

EMPTY = begin(None, 1.0, 3)


def report(cpu_ms: list[float], rates: list[float] | None = None, most: int = 4) -> BenchmarkReport:
    decode = DecodeFigures(
        frames=100,
        frames_per_s=Spread.of(rates or [100.0, 101.0, 99.0]),
        cpu_ms_per_frame=Spread.of(cpu_ms),
        frames_per_s_per_core=Spread.of([50.0, 51.0, 49.0]),
    )
    streams = StreamsReport(p99_ms=100.0, fps=30.0, most=most, tried_up_to=8, trials=())
    return msgspec.structs.replace(EMPTY, repeats=len(cpu_ms), decode=decode, streams=streams)


def verdicts(before: BenchmarkReport, after: BenchmarkReport) -> dict[str, str]:
    return {change.figure: change.verdict for change in compare(before, after).changes}


def test_equal_reports_have_no_changes() -> None:
    same = report([3.0, 3.1, 2.9])
    comparison = compare(same, same)
    assert {change.verdict for change in comparison.changes} == {"noise"}
    assert comparison.worse == comparison.differs == comparison.only_before == comparison.only_after == ()


def test_more_cpu_time_is_worse_and_more_frames_are_better() -> None:
    found = verdicts(report([3.0, 3.01, 2.99]), report([4.0, 4.01, 3.99], [150.0, 151.0, 149.0]))
    assert found["decode.cpu_ms_per_frame"] == "worse"
    assert found["decode.frames_per_s"] == "better"
    assert found["decode.frames_per_s_per_core"] == "noise"


def test_a_difference_inside_the_spread_is_noise() -> None:
    assert verdicts(report([3.0, 4.0, 2.0]), report([3.5, 4.5, 2.5]))["decode.cpu_ms_per_frame"] == "noise"


def test_a_small_change_is_noise_however_sure_it_is() -> None:
    found = verdicts(report([3.0, 3.0001, 2.9999]), report([3.03, 3.0301, 3.0299]))
    assert found["decode.cpu_ms_per_frame"] == "noise"


def test_what_was_measured_once_cannot_be_told_from_noise() -> None:
    found = verdicts(report([3.0], [100.0]), report([4.0], [100.0], most=5))
    assert found["decode.cpu_ms_per_frame"] == "unknown"
    assert found["decode.frames_per_s"] == "noise"  # the same number is no change
    assert found["streams.most"] == "unknown"


def test_figures_that_one_report_does_not_have_are_named() -> None:
    before = report([3.0, 3.1, 2.9])
    after = msgspec.structs.replace(before, decode=msgspec.UNSET)
    comparison = compare(before, after)
    assert "decode.cpu_ms_per_frame" in comparison.only_before
    assert comparison.only_after == ()


def test_other_versions_and_another_machine_are_told() -> None:
    before = report([3.0, 3.1, 2.9])
    after = msgspec.structs.replace(before, versions={**before.versions, "numpy": "0.1"}, seconds=2.0)
    assert compare(before, after).differs == (
        f"versions.numpy was {before.versions['numpy']}, is 0.1",
        "seconds was 1.0, is 2.0",
    )


def test_two_equal_programs_are_seldom_called_different() -> None:
    random = np.random.default_rng(5)  # stated, so that the test does not flicker

    def noisy() -> BenchmarkReport:
        return report(*(random.normal(100.0, 5.0, 3).tolist() for _ in range(2)))

    alarms = [
        any(change.verdict in ("better", "worse") for change in compare(noisy(), noisy()).changes) for _ in range(100)
    ]
    assert sum(alarms) <= 0.08 * len(alarms)


class TestTest:
    def test_repeats_without_noise_are_surely_different_or_the_same(self) -> None:
        assert (welch([1.0, 1.0], [2.0, 2.0]), welch([1.0, 1.0], [1.0, 1.0, 1.0])) == (0.0, 1.0)

    def test_values_without_a_logarithm_are_compared_as_they_are(self) -> None:
        p = welch([-1.0, 0.0, 1.0], [-0.9, 0.1, 1.1])
        assert p is not None
        assert 0.5 < p <= 1.0

    @given(st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), max_size=20))
    def test_correction_only_raises_and_keeps_the_order(self, ps: list[float | None]) -> None:
        raised = holm(ps)
        pairs = [(p, q) for p, q in zip(ps, raised, strict=True) if p is not None and q is not None]
        assert [p is None for p in ps] == [q is None for q in raised]
        assert all(p <= q <= 1.0 for p, q in pairs)
        ordered = [q for _, q in sorted(pairs)]
        assert ordered == sorted(ordered)

    @pytest.mark.parametrize(
        ("name", "after", "verdict"),
        [
            ("pipeline.throughput.frames_per_s", 1.1, "better"),
            ("pipeline.ratio_to_limit_repeats", 0.9, "worse"),
            ("scaling.rows[streams 4].rss_mib", 1.1, "worse"),
            ("pipeline.latency.latency_p99_ms", 0.9, "better"),
            ("pipeline.throughput.cores_used", 1.1, "changed"),
            ("decode.cpu_ms_per_frame", 1.0 + MIN_CHANGE / 2, "noise"),
        ],
    )
    def test_which_way_is_better(self, name: str, after: float, verdict: str) -> None:
        assert judge(name, 1.0, after, p=0.001) == verdict


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(None, "cannot be read", id="no file"),
        pytest.param(b"{", "is not a report of trunkline benchmark --json in format 2", id="no JSON"),
        pytest.param(
            b'{"format": 1}', "is not a report of trunkline benchmark --json in format 2", id="an older format"
        ),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "report.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        load(file)
