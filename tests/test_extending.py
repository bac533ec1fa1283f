"""The examples of docs/extending.md, each built into a package of its own and used in a run."""

import csv
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from unittest.mock import ANY

import cv2
import numpy as np
import pytest

from engines.errors import ConfigError
from pipeline.settings import entry_points
from pipeline.settings.load import load
from pipeline.wire.messages import FrameMessage, decode
from tests.pipeline.made_runs import dark_then_bright, write_model

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
SIZE, FRAMES = (64, 48), 16


def section(title: str) -> str:
    """What stands under a heading of the page."""
    return re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:][["A sink", "A source", "A backend", "A task"].index(title)]


def build(title: str, site: Path) -> str:
    """Install the package of a section into a folder, as pip would; its configuration."""
    files = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL))
    project = tomllib.loads(files.pop("pyproject.toml"))
    (module,) = files
    assert project["tool"]["setuptools"]["py-modules"] == [module.removesuffix(".py")]
    (site / module).write_text(files[module])
    name, version = project["project"]["name"], project["project"]["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = project["project"]["entry-points"].items()
    text = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in own.items()) for group, own in groups
    )
    (info / "entry_points.txt").write_text(text)
    (configuration,) = re.findall(r"^```toml\n(\[\[.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    return str(configuration)


def run(folder: Path, site: Path, links: Literal["queue", "zmq"], configuration: str) -> dict[str, object]:
    """Run a configuration in a folder, with a site folder more; the run's summary."""
    model = write_model(folder / "made").path
    head = f'links = "{links}"\n[model]\npath = "{model}"\nbackend = "onnxruntime"\n'
    (folder / "site.toml").write_text(f'{head}[publish]\naddress = "tcp://127.0.0.1:0"\n{configuration}')
    paths = os.pathsep.join(map(str, (site, ROOT, ROOT / "pipeline" / "public")))
    done = subprocess.run(
        [sys.executable, "-c", "from tools.start import main; main()", "run", "site.toml", "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, object] = json.loads(done.stdout)
    return summary


@pytest.mark.integration
def test_the_example_of_a_sink(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    site = tmp_path / "site"
    site.mkdir()
    sink = build("A sink", site)
    make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=SIZE, draw=dark_then_bright(FRAMES, SIZE))
    summary = run(tmp_path, site, "queue", f'[[streams]]\nname = "door"\nsource = "clip.mp4"\n{sink}')
    with (tmp_path / "tracks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows and all((row[0], row[2]) == ("door", "person") for row in rows)
    sinks = summary["sinks"]
    assert isinstance(sinks, dict)
    assert sinks["csv"] == sinks["publish"]
    assert sinks["csv"]["sent"] > FRAMES and sinks["csv"]["lost"] == {}


@pytest.mark.integration
def test_the_example_of_a_source(tmp_path: Path) -> None:
    site, album = tmp_path / "site", tmp_path / "album"
    site.mkdir()
    album.mkdir()
    stream = build("A source", site)
    for number in range(FRAMES):
        cv2.imwrite(str(album / f"{number:02}.jpg"), np.full((SIZE[1], SIZE[0], 3), 10 * number, np.uint8))
    # As processes: each of them has to find the package.
    summary = run(tmp_path, site, "zmq", f'{stream}[[sinks]]\nkind = "jsonl"\npath = "run.jsonl"\n')
    end = {"read": "all", "cause": f"end of the file after {FRAMES} frames"}
    assert summary["streams"] == {"album": {"captured": FRAMES, "published": FRAMES, "dropped": {}} | end}
    messages = [decode(line) for line in (tmp_path / "run.jsonl").read_bytes().splitlines()]
    assert [one.seq for one in messages if isinstance(one, FrameMessage)] == list(range(FRAMES))


def test_a_sink_s_own_keys_are_checked_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = build("A sink", tmp_path).replace("labels", "label")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(entry_points, "_found", entry_points._found.__wrapped__)  # others have looked already
    (tmp_path / "site.toml").write_text(f'[[streams]]\nname = "door"\nsource = "0"\n{sink}')
    with pytest.raises(ConfigError, match=r"sinks\[0\].label is not a key of a sink 'csv'; the keys here are kind,"):
        load(tmp_path / "site.toml")


def test_the_task_of_the_page_is_the_one_that_there_is() -> None:
    """Its own tests are tests/engines/tasks/test_mask.py; here, that the page shows it as it is."""
    declaration, field = re.findall(r"^```python\n(.*?)^```", section("A task"), re.MULTILINE | re.DOTALL)
    assert declaration == (ROOT / "engines/tasks/mask/__init__.py").read_text()
    assert field.strip() in (ROOT / "pipeline/wire/messages.py").read_text()
    shipped = tomllib.loads((ROOT / "configs/training/s.toml").read_text())
    (shown,) = (
        tomllib.loads(text) for text in re.findall(r"^```toml\n(.*?)^```", section("A task"), re.MULTILINE | re.DOTALL)
    )
    assert (
        shown["network"]["tasks"] == shipped["network"]["tasks"]
        and shown["loss"]["others"] == shipped["loss"]["others"]
    )
    assert shown["datasets"][0]["labels"].items() <= {name: ANY for name in shipped["datasets"][-1]["labels"]}.items()
