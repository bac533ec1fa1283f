"""The machine, what the run says of itself, and whether all is well."""

from typing import Any, Final

import msgspec
from litestar import Response, get

from pipeline.runtime.logs import last_lines
from pipeline.service.web.gate import TheSite, needs
from pipeline.settings.redact import redact

LOG_LINES: Final = 200
BOUNDS_MS: Final = (5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0)


@get("/api/system", opt=needs("admin"), sync_to_thread=True)
def system(site: TheSite) -> dict[str, Any]:
    """Return what ``trunkline doctor`` says, books and latencies of all streams, what happened to them, the log's end.

    ``machine`` is null for some seconds, while it is looked at, once. ``counts`` of ``latency`` has one number more
    than ``bounds_ms``, for all that took longer.
    """
    streams = [
        site.hub.report(name) | {"latency": {"bounds_ms": BOUNDS_MS, "counts": histogram(site.hub.latencies_ms(name))}}
        for name in site.hub.names()
    ]
    return {
        "machine": msgspec.to_builtins(site.machine()),
        "results": redact(site.hub.address),
        "model": redact(site.places.model.path),
        "config": None if site.places.config is None else str(site.places.config),
        "streams": streams,
        "happened": site.hub.lines(),
        "log": [] if site.places.log is None else last_lines(site.places.log, LOG_LINES),
    }


def histogram(times_ms: list[float]) -> list[int]:
    """Return how many times lie up to each bound, and how many beyond the last.

    >>> histogram([4.0, 5.0, 12.0, 5000.0])
    [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    counts = [0] * (len(BOUNDS_MS) + 1)
    for time_ms in times_ms:
        counts[next((row for row, bound in enumerate(BOUNDS_MS) if time_ms <= bound), len(BOUNDS_MS))] += 1
    return counts


@get("/healthz", opt=needs("nobody"), sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Say that the server runs."""
    return {"status": "ok"}


@get("/readyz", opt=needs("nobody"), sync_to_thread=False)
def readyz(site: TheSite) -> Response[dict[str, str]]:
    """Say whether every stream is up, or was told to be down or over: 200; 503 while nothing is known of one."""
    names = site.hub.names()
    unknown = sum(site.hub.report(name)["state"] == "unknown" for name in names)
    ready = bool(names) and not unknown
    status = "ok" if ready else f"nothing is known of {unknown} of {len(names)} streams"
    return Response({"status": status}, status_code=200 if ready else 503)


ROUTES = (system, healthz, readyz)
