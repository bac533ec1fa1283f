"""Metrics in Prometheus' protobuf format, the only one in which it reads native histograms.

The client writes text alone. Messages and numbers are those of ``io.prometheus.client.MetricFamily``:
https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto
"""

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.samples import Sample

from pipeline.frames.stage_times import SCHEMA, Histogram

CONTENT_TYPE: Final = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
QUALITY: Final = re.compile(r";\s*q=(\d(?:\.\d*)?)")
ZERO_THRESHOLD: Final = 2.0**-128  # as Prometheus' own client has it
KINDS: Final = {"counter": (0, 3), "gauge": (1, 2)}  # the type, and the field of a metric; any other is untyped
UNTYPED: Final = (3, 5)
HISTOGRAM, HISTOGRAM_FIELD = 4, 7
VARINT, DOUBLE, BYTES = 0, 1, 2  # types on the wire


def wanted(accept: str) -> bool:
    """Whether a scrape with this ``Accept`` asks for it rather than for text."""

    def quality(kind: str) -> float:
        found = QUALITY.search(kind)
        return 1.0 if found is None else float(found[1])

    best = max(accept.split(","), key=quality)
    return "application/vnd.google.protobuf" in best and "delimited" in best


class Histograms(HistogramMetricFamily):
    """Classic histograms that are native ones, too."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(name, documentation, labels=labels)
        self.native: dict[tuple[str, ...], Histogram] = {}

    def add(self, labels: tuple[str, ...], histogram: Histogram) -> None:
        """Add the histogram of these values of the labels."""
        within = [(str(bound), count) for bound, count in histogram.within]
        self.add_metric(labels, [*within, ("+Inf", histogram.count)], histogram.sum_s)
        self.native[labels] = histogram


def written(metrics: Iterable[Metric]) -> bytes:
    """The families one after another, each with its length before it."""
    return b"".join(_delimited(_family(metric)) for metric in metrics if metric.samples)


def _family(metric: Metric) -> bytes:
    if isinstance(metric, Histograms):
        kind, rows = HISTOGRAM, list(_histograms(metric))
    else:
        kind, field = KINDS.get(metric.type, UNTYPED)
        rows = [_labels(each.labels) + _bytes(field, _double(1, each.value)) for each in metric.samples]
    name = metric.samples[0].name if kind == KINDS["counter"][0] else metric.name
    head = _bytes(1, name.encode()) + _bytes(2, metric.documentation.encode()) + _int(3, kind)
    return head + b"".join(_bytes(4, row) for row in rows)


def _histograms(metric: Histograms) -> Iterator[bytes]:
    def of(sample: Sample) -> dict[str, str]:
        return {name: value for name, value in sample.labels.items() if name != "le"}

    for labels, samples in groupby(metric.samples, of):
        histogram = metric.native[tuple(labels.values())]
        buckets = [each for each in samples if "le" in each.labels]
        classic = b"".join(
            _bytes(3, _int(1, int(each.value)) + _double(2, float(each.labels["le"]))) for each in buckets
        )
        counted = _int(1, histogram.count) + _double(2, histogram.sum_s)
        yield _labels(labels) + _bytes(HISTOGRAM_FIELD, counted + classic + _native(histogram.native))


def _native(counts: dict[int, int]) -> bytes:
    """Buckets in spans without a hole, each bucket as the difference from the one before."""
    spans, deltas, after, before = b"", b"", 0, 0
    indices = sorted(counts)
    runs = [list(run) for _, run in groupby(enumerate(indices), lambda each: each[1] - each[0])]
    for run in runs:
        first, length = run[0][1], len(run)
        spans += _bytes(12, _int(1, _signed(first - after)) + _int(2, length))
        after = first + length
    for index in indices:
        deltas += _varint(_signed(counts[index] - before))
        before = counts[index]
    zero = _int(5, _signed(SCHEMA)) + _double(6, ZERO_THRESHOLD) + _int(7, 0)
    return zero + spans + (_bytes(13, deltas) if deltas else b"")


def _labels(labels: dict[str, str]) -> bytes:
    return b"".join(_bytes(1, _bytes(1, name.encode()) + _bytes(2, value.encode())) for name, value in labels.items())


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _signed(value: int) -> int:
    """As an unsigned number, small where it is near to 0 (ZigZag)."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def _delimited(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | DOUBLE) + struct.pack("<d", value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _delimited(content)
