"""OpenTelemetry's view of a run: a span for each batch, with links to the spans of its frames.

Spans are made once what they tell of is over, from the times that frames carry anyway, so nothing is kept open and
nobody waits. What belongs together is found by ids that follow from a frame, whichever process makes its span.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Self

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from pipeline.frames.types import Frame, Inferred, Result
from pipeline.settings.schema import TracesSettings

EXPORT_S: Final = 2.0  # that a collector has for what it is sent, also at the end of a run
SCOPE: Final = InstrumentationScope("trunkline")
RESOURCE: Final = Resource.create({"service.name": "trunkline"})
_PARTS: Final = 2**32  # of which a share is sampled


class Traces:
    """Makes spans of some batches and their frames. A thread of its own sends them; what it is too slow for is lost.

    Args:
        settings: where to, and how many.
        exporter: sends them; None: by OTLP over HTTP, as OpenTelemetry's own environment variables also say.
    """

    def __init__(self, settings: TracesSettings, exporter: SpanExporter | None = None) -> None:
        self._below = round(settings.sample * _PARTS)
        exporter = exporter or OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_S)
        self._processor: SpanProcessor = BatchSpanProcessor(exporter, export_timeout_millis=EXPORT_S * 1000)

    def batch(self, item: Inferred) -> None:
        """Tell of a batch that the engine is done with."""
        taken_ns = item.prepared.batch.taken_ns
        if not self._takes(taken_ns):
            return
        first = item.frames[0]
        links = [
            Link(_context(frame), {"trunkline.stream": frame.stream, "trunkline.seq": frame.seq})
            for frame in item.frames
        ]
        steps = {"prepared": item.prepared.ready_ns, "inference started": item.started_ns}
        self._tell(
            "batch",
            _ids(f"batch {taken_ns}"),
            (_unix_ns(first, taken_ns), _unix_ns(first, item.ended_ns)),
            {"trunkline.frames": len(item.frames), "trunkline.inferred": item.prepared.batch.inferred},
            links,
            [Event(name, timestamp=_unix_ns(first, at_ns)) for name, at_ns in steps.items()],
        )

    def frame(self, result: Result) -> None:
        """Tell of a frame that was published: from its capture, in its own trace."""
        if not self._takes(result.timestamps.taken_ns):
            return
        frame, times = result.frame, result.timestamps
        steps = {"batched": times.taken_ns, "inferred": times.infer_ended_ns}
        counts = {"trunkline.objects": len(result.objects.ids), "trunkline.faces": len(result.faces.ids)}
        self._tell(
            "frame",
            _context(frame),
            (frame.captured_ns, _unix_ns(frame, result.finished_ns)),
            {"trunkline.stream": frame.stream, "trunkline.seq": frame.seq, **counts},
            (),
            [Event(name, timestamp=_unix_ns(frame, at_ns)) for name, at_ns in steps.items()],
        )

    def close(self) -> None:
        """Send what waits, for EXPORT_S at the most."""
        self._processor.force_flush(round(EXPORT_S * 1000))
        self._processor.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _takes(self, taken_ns: int) -> bool:
        """Whether a batch is sampled, which all processes decide alike."""
        return self._below > 0 and _number(str(taken_ns), 4) < self._below

    def _tell(
        self,
        name: str,
        context: SpanContext,
        span: tuple[int, int],
        attributes: dict[str, str | int],
        links: Sequence[Link],
        events: Sequence[Event],
    ) -> None:
        self._processor.on_end(
            ReadableSpan(
                name=name,
                context=context,
                resource=RESOURCE,
                attributes=attributes,
                events=events,
                links=links,
                kind=SpanKind.INTERNAL,
                start_time=span[0],
                end_time=span[1],
                instrumentation_scope=SCOPE,
            )
        )


def _context(frame: Frame) -> SpanContext:
    return _ids(f"{frame.stream} {frame.seq} {frame.captured_ns}")


def _ids(text: str) -> SpanContext:
    return SpanContext(_number(f"trace {text}", 16), _number(f"span {text}", 8), False, TraceFlags(TraceFlags.SAMPLED))


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest())


def _unix_ns(frame: Frame, clock_ns: int) -> int:
    """Unix time of a moment of time.monotonic_ns(), by the frame that has both."""
    return clock_ns + frame.captured_ns - frame.clock_ns
