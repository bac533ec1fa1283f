"""What is served to Prometheus, of readings that are made; with real runs: tests/integration/test_metrics.py."""

import shutil
import socket
import subprocess
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engines.errors import ConfigError
from pipeline.frames.counters import FrameCounts, StreamState
from pipeline.frames.stage_times import LatencyHistogram, Times
from pipeline.runtime.reading import Reading, StreamReading
from pipeline.service.metrics import MetricsServer
from pipeline.settings.schema import Config, MetricsSettings, RecordSettings, StreamSettings
from pipeline.sinks.base import SinkCounts

ROOT = Path(__file__).parents[3]
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: Debian's prometheus has it"
)


def config(address: str = "127.0.0.1:0", **values: Any) -> Config:
    insecure = values.pop("insecure", False)
    return Config(
        streams=(StreamSettings(name="door", source="0"),),
        metrics=MetricsSettings(address=address, insecure=insecure),
        **values,
    )


def histogram(*latencies_ms: float) -> LatencyHistogram:
    made = LatencyHistogram()
    for ms in latencies_ms:
        made.add(ms)
    return made


READING = Reading(
    streams={
        "door": StreamReading(FrameCounts(10, 6, {"stale": 3}), StreamState("up", 2)),
        "yard": StreamReading(FrameCounts(4, 4, {}), StreamState("down", 0)),
        "clip": StreamReading(FrameCounts(5, 5, {}), StreamState("ended", 0)),
        "new": StreamReading(FrameCounts(0, 0, {}), StreamState()),
    },
    waiting={"frames": 1, "inferred": 0},
    times=Times({"total": histogram(3, 30, 300, 30_000).within_bounds()}, histogram(4, 4).within_bounds(), 7),
    sinks={"publish": SinkCounts(20, {"full": 2}, 5)},
)


class MadeRun:
    """A run of which only a reading is there."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def reading(self) -> Reading:
        return self._reading


def served(reading: Reading | None, configured: Config | None = None) -> str:
    """The text that a scrape gets while a run with this reading is attached."""
    with MetricsServer(configured or config()) as server:
        address = f"http://127.0.0.1:{server.port}/metrics"
        if reading is None:
            return str(urllib.request.urlopen(address, timeout=10).read().decode())
        with server.of(MadeRun(reading)):  # type: ignore[arg-type]  # no scrape asks it for more
            return str(urllib.request.urlopen(address, timeout=10).read().decode())


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values, the labels in the order of their names."""
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_books_of_streams_are_told_by_outcome() -> None:
    values = samples(served(READING))
    assert values["trunkline_frames_captured_total", "door"] == 10
    assert values["trunkline_frames_total", "published", "door"] == 6
    assert values["trunkline_frames_total", "stale", "door"] == 3
    assert values["trunkline_frames_total", "crash", "door"] == 0, "a counter is there before its first count"
    assert values["trunkline_frames_in_flight", "door"] == 1
    assert values["trunkline_stream_reconnects_total", "door"] == 2
    assert values["trunkline_frames_skipped_total",] == 7
    assert values["trunkline_queue_frames", "frames"] == 1


def test_a_stream_is_up_or_down_until_it_has_ended() -> None:
    values = samples(served(READING))
    up = {key[1]: value for key, value in values.items() if key[0] == "trunkline_stream_up"}
    assert up == {"door": 1, "yard": 0, "new": 0}


def test_latencies_are_a_histogram_in_seconds() -> None:
    values = samples(served(READING))
    within = [values["trunkline_latency_seconds_bucket", bound, "total"] for bound in ("0.005", "0.05", "1.0", "10.0")]
    assert within == [1, 2, 3, 3]
    assert values["trunkline_latency_seconds_bucket", "+Inf", "total"] == 4
    assert values["trunkline_latency_seconds_count", "total"] == 4
    assert values["trunkline_latency_seconds_sum", "total"] == pytest.approx(30.333)
    assert values["trunkline_engine_seconds_count",] == 2
    assert values["trunkline_engine_seconds_sum",] == pytest.approx(0.008)


def test_what_sinks_lose_is_told_by_cause() -> None:
    values = samples(served(READING))
    assert values["trunkline_sink_sent_total", "publish"] == 20
    assert values["trunkline_sink_lost_total", "full", "publish"] == 2
    assert values["trunkline_sink_lost_total", "failed", "publish"] == 0
    assert values["trunkline_sink_queue_messages", "publish"] == 5


def test_the_disk_of_a_recording_is_told(tmp_path: Path) -> None:
    (tmp_path / "door").mkdir()
    (tmp_path / "door" / "one.mp4").write_bytes(b"x" * 1234)
    values = samples(served(READING, config(record=RecordSettings(directory=str(tmp_path)))))
    assert values["trunkline_store_size_bytes", "record"] == 1234
    assert values["trunkline_disk_free_bytes", "record"] > 0


def test_a_folder_that_is_not_there_yet_is_not_told_of(tmp_path: Path) -> None:
    values = samples(served(READING, config(record=RecordSettings(directory=str(tmp_path / "none")))))
    assert not [key for key in values if key[0] in ("trunkline_store_size_bytes", "trunkline_disk_free_bytes")]


def test_before_a_run_only_the_process_is_told_of() -> None:
    values = samples(served(None))
    assert values["trunkline_process_resident_memory_bytes", "main"] > 1e6
    assert not [key for key in values if key[0].startswith(("trunkline_frames_total", "trunkline_stream"))]


def test_a_process_that_is_gone_is_left_out() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    values = samples(served(replace(READING, processes={"infer": process.pid})))
    assert ("trunkline_process_cpu_seconds_total", "main") in values
    assert ("trunkline_process_cpu_seconds_total", "infer") not in values


def test_gpus_are_told_of_as_far_as_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    made = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=42),
        "nvmlDeviceGetDecoderUtilization": refuse,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3, total=9),
    }
    for name, function in made.items():
        monkeypatch.setattr(pynvml, name, function)
    values = samples(served(READING))
    assert values["trunkline_gpu_utilization_ratio", "0"] == 0.42
    assert values["trunkline_gpu_memory_used_bytes", "0"] == 3
    assert ("trunkline_gpu_decoder_utilization_ratio", "0") not in values


@promtool
@pytest.mark.parametrize("reading", [None, Reading(), READING], ids=["before a run", "no stream yet", "of all states"])
def test_promtool_finds_nothing_wrong_with_the_text(reading: Reading | None, tmp_path: Path) -> None:
    text = served(reading, config(record=RecordSettings(directory=str(tmp_path))))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@promtool
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "docs/prometheus/alerts.yml"],
        ["check", "config", "docs/prometheus/prometheus.yml"],
        ["test", "rules", "tests/pipeline/service/alerts_test.yml"],
    ],
)
def test_the_alerts_sound_when_they_should(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("address", ["9464", "localhost", "localhost:*", "localhost:99999", "http://localhost:1", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.address is .*, but must be HOST:PORT"):
        MetricsServer(config(address))


def test_beyond_this_host_it_has_to_be_allowed() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.insecure = true"):
        MetricsServer(config("0.0.0.0:0"))
    MetricsServer(config("0.0.0.0:0", insecure=True)).close()


def test_an_address_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"metrics.address is '{address}', which cannot be used: .*in use"):
            MetricsServer(config(address))
