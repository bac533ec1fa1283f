"""Spans of batches and frames, of whole runs and by OpenTelemetry's own exporters."""

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engines.spec import Model
from pipeline.runtime import tracing
from pipeline.settings.schema import TracesSettings
from tests.pipeline.made_runs import Run, check_books, make_config, write_model

FRAMES = 24
NAMES = ("door", "yard")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, (64, 48))


def traced(model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, sample: float) -> list[ReadableSpan]:
    """The spans of a run of two files, as they are exported."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "OTLPSpanExporter", lambda **_: exporter)
    traces = {"endpoint": "http://127.0.0.1:9/v1/traces", "sample": sample}
    run = Run(make_config(model, dict.fromkeys(NAMES, clip), traces=traces))
    check_books(run, run.end())
    return list(exporter.get_finished_spans())


def test_each_batch_has_a_span_that_is_linked_to_those_of_its_frames(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = traced(model, clip, monkeypatch, 1.0)
    frames = {span.context.span_id: span for span in spans if span.name == "frame"}
    batches = [span for span in spans if span.name == "batch"]
    assert len(frames) == 2 * FRAMES
    linked = [link for batch in batches for link in batch.links]
    assert {link.context.span_id for link in linked} == set(frames) and len(linked) == len(frames)
    assert sorted((link.attributes["trunkline.stream"], link.attributes["trunkline.seq"]) for link in linked) == sorted(
        (name, seq) for name in NAMES for seq in range(FRAMES)
    )
    for batch in batches:
        assert batch.attributes["trunkline.frames"] == len(batch.links)
        assert batch.start_time <= batch.events[0].timestamp <= batch.events[1].timestamp <= batch.end_time
        for link in batch.links:
            frame = frames[link.context.span_id]
            assert frame.attributes["trunkline.objects"] in (0, 1)
            assert frame.start_time <= batch.start_time + 2_000_000, "a frame is captured before its batch is taken"
            assert batch.end_time - 2_000_000 <= frame.end_time


def test_what_is_sampled_is_sampled_as_a_whole(model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = traced(model, clip, monkeypatch, 0.5)
    frames = {span.context.span_id for span in spans if span.name == "frame"}
    linked = {link.context.span_id for span in spans if span.name == "batch" for link in span.links}
    assert frames == linked and 0 <= len(frames) <= 2 * FRAMES
    assert not traced(model, clip, monkeypatch, 0.0)


def test_half_of_the_batches_are_half() -> None:
    traces = tracing.Traces(TracesSettings("http://127.0.0.1:9/", 0.5), InMemorySpanExporter())
    taken = sum(traces._takes(number * 12_345_678) for number in range(4000))
    traces.close()
    assert 1800 < taken < 2200


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.got.append(ExportTraceServiceRequest.FromString(body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.integration
def test_a_collector_gets_all_of_it_from_whichever_process(model: Model, clip: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.got = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    traces = {"endpoint": f"http://127.0.0.1:{server.server_port}/v1/traces", "sample": 1.0}
    run = Run(make_config(model, {"door": clip}, links="zmq", traces=traces))
    check_books(run, run.end())
    server.shutdown()
    rows = [row for each in server.got for row in each.resource_spans]  # type: ignore[attr-defined]
    got = [span for row in rows for scope in row.scope_spans for span in scope.spans]
    frames = {(span.trace_id, span.span_id) for span in got if span.name == "frame"}
    linked = {(link.trace_id, link.span_id) for span in got if span.name == "batch" for link in span.links}
    assert len(frames) == FRAMES and linked == frames


def test_a_collector_that_is_not_there_costs_a_run_nothing_but_a_moment_at_its_end(model: Model, clip: Path) -> None:
    traces = {"endpoint": "http://127.0.0.1:9/v1/traces", "sample": 1.0}
    run = Run(make_config(model, {"door": clip}, traces=traces))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].published == FRAMES
