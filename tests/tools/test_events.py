"""``trunkline events`` as people and scripts meet it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engines.errors import ConfigError
from pipeline.store import EventStore
from tests.pipeline.store.test_events import event
from tools.events import moment_ns
from tools.main import app

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW_NS = round(NOW.timestamp()) * 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with EventStore(tmp_path / "events", create=True) as store:
        store.add(
            [
                event(at_ns=NOW_NS, snapshot=b"jpeg"),
                event(at_ns=NOW_NS + 10**9, stream="yard", label="car", score=0.5),
                event(at_ns=NOW_NS + 2 * 10**9, kind="identity", person="Ada", label="Ada"),
            ]
        )
    return tmp_path / "events"


def trunkline(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["events", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_newest_first_in_a_table(folder: Path) -> None:
    result = trunkline("list", "--store", folder)
    assert result.exit_code == 0
    rows = [line for line in result.stdout.splitlines() if "2026-11-23" in line]
    assert ["Ada" in row for row in rows] == [True, False, False] and "picture" in rows[2]


def test_a_page_that_is_not_all_says_how_to_go_on(folder: Path) -> None:
    first = trunkline("list", "--store", folder, "--limit", 2)
    until = first.stderr.split("--until ")[1].split()[0]
    rest = trunkline("list", "--store", folder, "--until", until, "--json")
    assert [json.loads(line)["id"] for line in rest.stdout.splitlines()] == [1]


def test_filters_and_json(folder: Path) -> None:
    result = trunkline("list", "--store", folder, "--stream", "yard", "--since", "2026-11-23", "--json")
    (found,) = map(json.loads, result.stdout.splitlines())
    assert (found["label"], found["body"]["label"], found["has_snapshot"]) == ("car", "car", False)


def test_one_event_with_its_picture(folder: Path, tmp_path: Path) -> None:
    result = trunkline("show", 1, "--store", folder, "--picture", tmp_path / "1.jpg")
    assert json.loads(result.stdout)["stream"] == "door" and (tmp_path / "1.jpg").read_bytes() == b"jpeg"
    assert (
        trunkline("show", 2, "--store", folder, "--picture", tmp_path / "2.jpg").stderr
        == "error: event 2: has no picture\n"
    )
    gone = trunkline("show", 9, "--store", folder)
    assert gone.exit_code == 2 and gone.stderr.startswith("error: event 9: is not in the store")


def test_export_is_what_was_published(folder: Path) -> None:
    lines = trunkline("export", "--store", folder, "--person", "Ada").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["identity"]


def test_deleting_by_number_and_by_choice(folder: Path) -> None:
    assert trunkline("delete", "--store", folder, 1).stdout == f"1 event deleted from {folder}\n"
    assert trunkline("delete", "--store", folder, "--until", "2026-11-24").stdout.startswith("2 events deleted")
    assert trunkline("list", "--store", folder, "--json").stdout == ""


@pytest.mark.parametrize("arguments", [(), (1, "--label", "person")], ids=["nothing", "both"])
def test_deleting_everything_by_mistake_is_refused(folder: Path, arguments: tuple[object, ...]) -> None:
    result = trunkline("delete", "--store", folder, *arguments)
    assert result.exit_code == 2 and "takes the numbers of events, or options that choose them" in result.stderr
    with EventStore(folder) as store:
        assert store.count() == 3


def test_a_folder_without_a_store_is_not_made(tmp_path: Path) -> None:
    result = trunkline("list", "--store", tmp_path / "none")
    assert result.exit_code == 2 and "there is no such file" in result.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T10:00+02:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T10:00Z", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("90s", datetime(2026, 11, 23, 11, 58, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 16, 12, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert moment_ns(text, "--since", NOW) == round(expected.timestamp()) * 10**9


@pytest.mark.parametrize("text", ["", "yesterday", "h", "-2h", "2w", "٢h", "2026-13-01"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--since must be a day \(2026-11-23\), a moment"):
        moment_ns(text, "--since")
