"""Native histograms: as they are written, and as a real Prometheus reads them."""

import contextlib
import json
import shutil
import struct
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from pipeline.frames.stage_times import SCHEMA, Histogram
from pipeline.service.metrics import MetricsServer
from pipeline.service.metrics_protobuf import CONTENT_TYPE, Histograms, wanted, written
from tests.pipeline.made_runs import PATIENCE_S
from tests.pipeline.service.test_metrics import READING, MadeRun, config
from tests.ports import free_port

PROTOBUF = CONTENT_TYPE.replace(" ", "")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next one begins."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def signed(value: int) -> int:
    return value >> 1 if value % 2 == 0 else -(value + 1 >> 1)


def fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message, as they are on the wire."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        else:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
        found.setdefault(key >> 3, []).append(value)
    return found


def families(data: bytes) -> Iterator[dict[int, list[Any]]]:
    at = 0
    while at < len(data):
        length, at = varint(data, at)
        yield fields(data[at : at + length])
        at += length


def native(histogram: dict[int, list[Any]]) -> dict[int, int]:
    """The buckets of a histogram by their index."""
    deltas, at = [], 0
    (packed,) = histogram.get(13, [b""])
    while at < len(packed):
        value, at = varint(packed, at)
        deltas.append(signed(value))
    found, index, count = {}, 0, 0
    for span in map(fields, histogram.get(12, [])):
        index += signed(span[1][0])
        for _ in range(span[2][0]):
            count += deltas.pop(0)
            found[index], index = count, index + 1
    assert not deltas
    return found


@given(st.dictionaries(st.integers(-200, 100), st.integers(1, 10**12), max_size=40))
def test_buckets_are_read_as_they_were_written(counts: dict[int, int]) -> None:
    metric = Histograms("latency_seconds", "Of frames.", ("stage",))
    histogram = Histogram(count=sum(counts.values()), sum_s=1.5, native=counts)
    metric.add(("post",), histogram)
    metric.add(("total",), Histogram())
    (family,) = families(written([metric]))
    assert (family[1], family[3]) == ([b"latency_seconds"], [4])
    first, second = (fields(fields(row)[7][0]) for row in family[4])
    assert native(first) == counts and native(second) == {}
    assert (first[1], first[2], signed(first[5][0])) == ([sum(counts.values())], [1.5], SCHEMA)
    assert fields(fields(family[4][0])[1][0]) == {1: [b"stage"], 2: [b"post"]}
    bounds = [fields(bucket)[2][0] for bucket in first[3]]
    assert bounds == sorted(bounds) and bounds[-1] == float("inf")


def test_counters_and_gauges_have_their_names_and_labels() -> None:
    frames = CounterMetricFamily("frames", "Of a stream.", labels=("stream",))
    frames.add_metric(("düne",), 300)
    up = GaugeMetricFamily("up", "Whether.", value=0.0)
    counter, gauge = families(written([frames, up, GaugeMetricFamily("none", "Nothing.", labels=("stream",))]))
    assert (counter[1], counter[3], gauge[1], gauge[3]) == ([b"frames_total"], [0], [b"up"], [1])
    row = fields(counter[4][0])
    assert (fields(row[1][0]), fields(row[3][0])) == ({1: [b"stream"], 2: ["düne".encode()]}, {1: [300.0]})
    assert fields(fields(gauge[4][0])[2][0]) == {1: [0.0]}


@pytest.mark.parametrize(
    ("accept", "protobuf"),
    [
        ("", False),
        ("*/*", False),
        (PROTOBUF, True),
        (f"{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5,*/*;q=0.1", True),
        (f"application/openmetrics-text;version=1.0.0;q=0.6,{PROTOBUF};q=0.5", False),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", False),
    ],
)
def test_who_asks_for_it_gets_it(accept: str, protobuf: bool) -> None:
    assert wanted(accept) is protobuf
    with MetricsServer(config()) as server, server.of(MadeRun(READING)):  # type: ignore[arg-type]
        asked = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            kind, body = answer.headers["Content-Type"], answer.read()
    assert (kind == CONTENT_TYPE) is protobuf
    assert (b"# HELP" in body) is not protobuf


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing: it is a package of Debian")
def test_prometheus_reads_native_histograms(tmp_path: Path) -> None:
    place = f"127.0.0.1:{free_port()}"

    def query(expression: str) -> list[dict[str, Any]]:
        asked = f"http://{place}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])
        return []

    with MetricsServer(config()) as server, server.of(MadeRun(READING)):  # type: ignore[arg-type]
        jobs = f"[{{job_name: trunkline, static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]}}]"
        (tmp_path / "prometheus.yml").write_text(f"global: {{scrape_interval: 500ms}}\nscrape_configs: {jobs}\n")
        options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        options += [f"--web.listen-address={place}", "--enable-feature=native-histograms"]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
        try:
            end = time.monotonic() + PATIENCE_S
            while not (found := query("trunkline_latency_seconds")):
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.1)
            (median,) = query('histogram_quantile(0.5, trunkline_latency_seconds{stage="total"})')
            (published,) = query('trunkline_frames_total{stream="door", outcome="published"}')
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    (histogram,) = (each["histogram"][1] for each in found)
    assert (histogram["count"], histogram["sum"]) == ("4", "30.333")
    within = [(float(low), float(high)) for _, low, high, _ in histogram["buckets"]]
    assert all(low < latency_s <= high for (low, high), latency_s in zip(within, (0.003, 0.03, 0.3, 30), strict=True))
    assert 0.028 < float(median["value"][1]) < 0.032
    assert published["value"][1] == "6"
