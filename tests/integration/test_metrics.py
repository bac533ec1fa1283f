"""A real Prometheus that scrapes real runs: what it was told, and every query of the board."""

import contextlib
import http
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.spec import Model
from tests.pipeline.made_runs import PATIENCE_S, Run, make_config
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
RATE = 25  # of the clip, frames/s
BOARD = ROOT / "docs" / "grafana" / "trunkline.json"
WINDOW = "10s"  # of the board's rates, here

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing: it is a package of Debian"),
]


class Prometheus:
    """A Prometheus that scrapes one target, twice a second."""

    def __init__(self, folder: Path, target: int) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        settings = folder / "prometheus.yml"
        settings.write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
            f"scrape_configs: [{{job_name: trunkline, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )
        self._log = (folder / "log").open("w+")
        options = [f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"]
        self._process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={self._address}"], stdout=self._log, stderr=self._log
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query; none while the server does not answer yet."""
        asked = f"http://{self._address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.SERVICE_UNAVAILABLE:
                return []
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        except OSError:
            assert self._process.poll() is None, "Prometheus has ended"
            return []
        return list(body["data"]["result"])

    def wait(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, once there are some."""
        end = time.monotonic() + PATIENCE_S
        while not (series := self.query(expression)):
            assert time.monotonic() < end, f"{expression} gives nothing within {PATIENCE_S} s"
            time.sleep(0.05)
        return series

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, Prometheus]]]:
    """A Prometheus for the run of each kind of links, and the port that it scrapes.

    It begins to after 5 s, in which the first run, the slower one, begins.
    """
    with contextlib.ExitStack() as stack:
        made = {}
        for links in ("queue", "zmq"):
            port = free_port()
            made[links] = port, Prometheus(tmp_path_factory.mktemp(links), port)
            stack.callback(made[links][1].close)
        yield made


@pytest.fixture
def scraped(
    model: Model, clip: Path, tmp_path: Path, waiting: dict[str, tuple[int, Prometheus]]
) -> Iterator[Callable[[str], tuple[Run, Prometheus]]]:
    """``scraped(links)``: a run with a recording and an event store, and a Prometheus that scrapes it."""
    with contextlib.ExitStack() as stack:

        def start(links: str) -> tuple[Run, Prometheus]:
            port, prometheus = waiting[links]
            stream = {"source": clip, "pace": "realtime", "loop": True, "timeout_s": 0.5}
            run = Run(
                make_config(
                    model,
                    {"door": stream},
                    links=links,
                    metrics={"address": f"127.0.0.1:{port}"},
                    record={"directory": str(tmp_path / "video")},
                )
            )
            stack.callback(run.stop.set)
            return run, prometheus

        yield start


def queries() -> list[str]:
    """Of all panels, with the board's variables as Grafana would fill them in."""
    panels = json.loads(BOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    return [each.replace("$stream", ".*").replace("$__rate_interval", WINDOW) for each in expressions]


def check_board(prometheus: Prometheus) -> None:
    """Every query of the board shows something of a run."""
    prometheus.wait(f"rate(trunkline_engine_seconds_count[{WINDOW}]) > 0")
    asked = [query for query in queries() if "gpu" not in query]  # where there is none, there is nothing to show
    assert len(asked) >= 15
    for query in asked:
        for series in prometheus.wait(query):
            assert re.fullmatch(r"[-+.e\d]+|NaN", series["value"][1]), query
    (latency,) = prometheus.query(next(query for query in asked if "histogram_quantile(0.99" in query))
    assert 0.0 < float(latency["value"][1]) < PATIENCE_S


def test_the_board_shows_a_run_of_processes_and_tells_of_one_that_was_killed(
    scraped: Callable[[str], tuple[Run, Prometheus]],
) -> None:
    run, prometheus = scraped("zmq")
    check_board(prometheus)
    prometheus.wait('trunkline_process_cpu_seconds_total{process="finish"}')
    (finish,) = (child for child in multiprocessing.active_children() if child.name == "finish")
    assert finish.pid is not None
    os.kill(finish.pid, signal.SIGKILL)
    seen = len(run.frames("door"))
    run.wait(lambda run: len(run.frames("door")) > seen + RATE)  # of the process that replaces it
    (told,) = prometheus.wait(count := 'trunkline_latency_seconds_count{stage="total"}')
    prometheus.wait(f"{count} != {told['value'][1]}")
    assert prometheus.query('trunkline_stream_up{stream="door"} == 1'), "the state of a stream outlives who told it"
    run.end_now()


def test_the_board_and_what_prometheus_was_told_are_those_of_a_run_of_threads(
    scraped: Callable[[str], tuple[Run, Prometheus]],
) -> None:
    run, prometheus = scraped("queue")
    check_board(prometheus)
    seen_before = len(run.frames("door"))
    (told,) = prometheus.wait(f'trunkline_frames_total{{outcome="published"}} > {seen_before}')
    assert told["metric"]["stream"] == "door"
    run.wait(lambda run: len(run.frames("door")) >= int(told["value"][1]) - 1)  # one may be published and not sent yet
    assert int(told["value"][1]) <= len(run.frames("door")) + RATE
    run.end_now()
