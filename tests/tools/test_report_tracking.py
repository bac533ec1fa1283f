import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from tools.report import app
from tools.tracking import simulated
from tools.tracking.simulated import Scene, simulate

pytest.importorskip("trackeval", reason="scores need the package trackeval")
pytest.importorskip("trackers", reason="the comparison needs the package trackers")

PEERS = ("SORT", "ByteTrack", "OC-SORT")
SMALL = Scene(name="small", seed=3, people=3, seconds=2.0)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_follows_who_walks_alone(peer: str) -> None:
    from tools.tracking.peers import follow_peer

    sequence = simulate(Scene(name="few", seed=5, people=3, seconds=3.0, missed=0.0, false=0.0))
    rows, seconds = follow_peer(peer, {}, sequence)
    assert 0 < len(set(rows.ids.tolist())) <= 6  # who is hidden may get another number
    assert 0.3 * len(sequence.truth) < len(rows) <= len(sequence.detections)
    assert seconds > 0


def test_a_grid_begins_with_the_defaults() -> None:
    from tools.tracking.peers import GRIDS, grid

    tried = list(grid("SORT"))
    assert tried[0] == {}
    assert len(tried) == 1 + np.prod([len(values) for values in GRIDS["SORT"].values()])


@pytest.mark.parametrize("tune", [False, True])
def test_the_pages_hold_every_tracker_and_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: bool) -> None:
    from tools.tracking import comparison, peers

    monkeypatch.setattr(simulated, "SCENES", (SMALL,))
    monkeypatch.setattr(comparison, "CROWD", SMALL)
    monkeypatch.setattr(peers, "GRIDS", {peer: {"minimum_iou_threshold": (0.2,)} for peer in PEERS})
    folder = tmp_path / "tracking" / "one"
    for name in ("det", "gt"):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.txt").write_text("".join(f"{t},1,{9 + t},9,40,90,1,3\n" for t in range(1, 20)))
    (folder / "seqinfo.ini").write_text("[Sequence]\nframeRate=10\nimWidth=640\nimHeight=360\n")
    arguments = ["tracking", "--data", str(tmp_path), "--out", str(tmp_path), *(["--tune"] if tune else [])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "tracking.json").read_text())
    trackers = {"Trunkline", *PEERS} | ({f"{peer}, tuned" for peer in PEERS} if tune else set())
    assert {row["tracker"] for row in found["rows"]} == trackers
    assert {row["sequence"] for row in found["rows"]} == {"one", "simulated-small"}
    assert [each["tracker"] for each in found["speeds"]] == ["Trunkline", *PEERS]
    assert (tmp_path / "tracking.png").stat().st_size > 1000
    page = (tmp_path / "tracking.md").read_text()
    assert all(f"| {tracker} |" in page for tracker in trackers)


def test_the_committed_page_is_what_its_results_give() -> None:
    from tools.tracking.comparison import TrackerComparison
    from tools.tracking.page import page_of

    results = Path(__file__).parents[2] / "docs/results"
    found = msgspec.json.decode((results / "tracking.json").read_bytes(), type=TrackerComparison)
    page = page_of(found, "trunkline report tracking --data DATA --tune --out docs/results")
    assert page == (results / "tracking.md").read_text()
