"""Every refusal is one sentence with the file, the key, the value and what is allowed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError
from pipeline.settings.load import load
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.jsonl import JsonLinesSettings

ONE = '[[streams]]\nname = "door"\nsource = "0"\n'
TWO = ONE + '[[streams]]\nname = "yard"\nsource = "1"\n'
ZONE = '[[streams.zones]]\nname = "lawn"\n'
CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.toml"))


SINK = ONE + '[[sinks]]\nkind = "jsonl"\npath = "a"\n'
SINK_KEYS = (
    "sinks[0].colour is not a key of a sink 'jsonl'; the keys here are kind, name, queue, path, types, max_mb, files"
)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "site.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path: Path, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environment or {})
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def test_the_smallest_configuration_takes_every_default(write: Any) -> None:
    assert load(write(ONE)) == Config(streams=(StreamSettings(name="door", source="0"),))


def test_a_whole_number_is_taken_where_a_number_is_wanted(write: Any) -> None:
    assert load(write(ONE + "timeout_s = 5\n")).streams[0].timeout_s == 5.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            TWO + 'pace = "slow"\n', "streams[1].pace is 'slow', but must be one of", id="not one of the words"
        ),
        pytest.param(
            ONE + "inference_crops = 4\n[inference]\nmax_batch = 4\n",
            "streams[0].inference_crops is 4, but must be below inference.max_batch, which is 4",
            id="more crops than a batch has room for",
        ),
        pytest.param(
            ONE + '[inference]\nnms = "hard"\n',
            "inference.nms is 'hard', but must be one of 'class-agnostic', 'class-aware', 'soft'",
            id="no way to suppress",
        ),
        pytest.param(
            ONE + 'loop = "yes"\n', "streams[0].loop is 'yes', but must be true or false", id="text for a bool"
        ),
        pytest.param(ONE + "timeout_s = 0\n", "streams[0].timeout_s is 0, but must be a number above 0", id="at bound"),
        pytest.param(
            ONE + "timeout_s = inf\n", "streams[0].timeout_s is inf, but must be a finite number", id="infinite"
        ),
        pytest.param(ONE + "timeout_s = nan\n", "streams[0].timeout_s is nan, but must be a finite number", id="nan"),
        pytest.param(
            ONE + "[inference]\nobject_score = 1.5\n",
            "inference.object_score is 1.5, but must be a number at least 0 and at most 1",
            id="above the range, None being allowed",
        ),
        pytest.param(
            ONE + "[inference]\nmax_batch = 1.5\n",
            "inference.max_batch is 1.5, but must be a whole number above 0",
            id="a fraction of a frame",
        ),
        pytest.param(
            ONE + "[inference]\nmax_batch = true\n",
            "inference.max_batch is true, but must be a whole number above 0",
            id="a bool for a number",
        ),
        pytest.param(
            ONE + '[inference]\nfps = "adaptive"\n',
            "inference.fps is 'adaptive', but must be a number above 0 or one of 'auto', 'full'",
            id="not one of the rates",
        ),
        pytest.param(
            ONE + "[inference]\nmin_rate_hz = 0\n",
            "inference.min_rate_hz is 0, but must be a number above 0",
            id="a least rate of never",
        ),
        pytest.param(
            ONE + '[model]\nbackend = "tensorflow"\n',
            "model.backend is 'tensorflow', but must be one of",
            id="unknown backend",
        ),
        pytest.param(
            ONE + "[record]\nsegment_s = 0.5\n",
            "record.segment_s is 0.5, but must be a number at least 1",
            id="a file a frame",
        ),
        pytest.param(
            ONE + "[record]\nkeep_days = 0\n",
            "record.keep_days is 0, but must be a number above 0",
            id="kept for no time",
        ),
        pytest.param(
            ONE + "[record]\nkeep_gb = 0\n",
            "record.keep_gb is 0, but must be a number above 0",
            id="nothing is kept",
        ),
        pytest.param(
            ONE + "[record]\nmin_free_gb = -1\n",
            "record.min_free_gb is -1, but must be a number at least 0",
            id="less than nothing free",
        ),
        pytest.param(ONE + "[identity]\ngallery = 3\n", "identity.gallery is 3, but must be text in quotes", id="type"),
        pytest.param("tracking = 3\n" + ONE, "tracking is 3, but must be a table", id="a number where a table belongs"),
        pytest.param(
            ONE + ZONE + "points = [[0, 0], [1, 0]]\n",
            "streams[0].zones[0].points is an array of 2, but must be an array of 3 to 64 points [x, y]",
            id="a zone of two points",
        ),
        pytest.param(
            ONE + ZONE + "points = [[0, 0], [1, 0], [0.5, 1.2]]\n",
            "streams[0].zones[0].points[2][1] is 1.2, but must be a number at least 0 and at most 1",
            id="a point beside the picture",
        ),
        pytest.param(
            ONE + ZONE + "points = [[0, 0], [1, 0], [1, 1, 1]]\n",
            "streams[0].zones[0].points[2] is an array of 3, but must be two numbers [x, y] from 0 to 1",
            id="a point with three numbers",
        ),
        pytest.param(
            ONE + ZONE + "points = [[0, 0], [1, 1], [1, 0], [0, 1]]\n",
            "streams[0].zones[0].points is an array of 4 whose edges 0 and 2 touch or cross, but must be a polygon",
            id="a zone that crosses itself",
        ),
        pytest.param(
            ONE + (ZONE + "points = [[0, 0], [1, 0], [1, 1]]\n") * 2,
            "streams[0].zones[1].name is 'lawn', but must differ from the names of the stream's other zones and lines, "
            "and streams[0].zones[0] has it already",
            id="two zones of one name",
        ),
        pytest.param(
            ONE + ZONE + "points = [[0, 0], [1, 0], [1, 1]]\nlabels = []\n",
            "streams[0].zones[0].labels is empty, but must be an array of one label or more",
            id="a zone for nothing",
        ),
        pytest.param(
            ONE + ZONE + "points = [[0, 0], [1, 0], [1, 1]]\nlabels = [3]\n",
            "streams[0].zones[0].labels[0] is 3, but must be text in quotes",
            id="a label that is a number",
        ),
        pytest.param(
            ONE + '[[streams.lines]]\nname = "gate"\npoints = [[0, 0], [0, 0]]\n',
            "streams[0].lines[0].points is the same point twice, but must be two points that differ",
            id="a line without length",
        ),
        pytest.param(
            ONE + '[[streams.lines]]\nname = "gate"\n',
            "streams[0].lines[0].points is missing; it must be an array of two points [x, y], from and to",
            id="a line without points",
        ),
        pytest.param(
            ONE + 'forward = "tcp://10.0.0.1:5600"\n' + ZONE + "points = [[0, 0], [1, 0], [1, 1]]\n",
            "streams[0].zones[0] is there, but must be left out where the stream is forwarded: nothing is seen here",
            id="a zone of a stream that nobody looks at here",
        ),
        pytest.param(
            ONE + 'forward = "tcp://10.0.0.1:5600"\n[packets]\naddress = "ipc:///tmp/packets"\n',
            "packets.address is there, but must be left out where streams are forwarded",
            id="packets of streams that another host reads",
        ),
        pytest.param(
            ONE + "[packets]\njpeg_rate_hz = 0\n",
            "packets.jpeg_rate_hz is 0, but must be a number above 0 and at most 60",
            id="no pictures a second",
        ),
        pytest.param(
            ONE + "[zmq]\nlive_picture = [0, 720]\n",
            "zmq.live_picture[0] is 0, but must be a whole number above 0",
            id="one number of two",
        ),
        pytest.param(
            "streams = []\n", "streams is empty, but must be an array of one table or more", id="no streams at all"
        ),
        pytest.param("", "streams is missing; it must be an array of one table or more", id="an empty file"),
        pytest.param(
            '[streams]\nname = "door"\n',
            "streams is a table, but must be an array of one table or more",
            id="single brackets",
        ),
        pytest.param('[[streams]]\nname = "door"\n', "streams[0].source is missing; it must be text", id="no source"),
        pytest.param(
            "[[streams]]\nname = 'a'\nsource = ['x']\n",
            "streams[0].source is an array of 1, but must be text",
            id="array",
        ),
        pytest.param(
            '[[streams]]\nname = "front door"\nsource = "0"\n',
            "streams[0].name is 'front door', but must be 1 to 64 letters, digits, dots, dashes and underscores",
            id="a space in a name",
        ),
        pytest.param('[[streams]]\nname = "a\\n"\nsource = "0"\n', "streams[0].name is 'a\\n', but", id="newline"),
        pytest.param(
            ONE + "pase = 1\n", "streams[0].pase is not a key of this configuration; the keys here are name,", id="key"
        ),
        pytest.param(ONE + "[trakcing]\n", "trakcing is not a key of this configuration", id="unknown table"),
        pytest.param(
            TWO.replace("yard", "door"),
            "streams[1].name is 'door', but must differ from the other names, and streams[0] has it already",
            id="two streams of one name",
        ),
        pytest.param(
            ONE + "reconnect_min_s = 3\nreconnect_max_s = 2\n",
            "streams[0].reconnect_min_s is 3, but must be at most reconnect_max_s, which is 2",
            id="backoff upside down",
        ),
        pytest.param(
            ONE + '[[sinks]]\npath = "a"\n', "sinks[0].kind is missing; it must be one of 'jsonl', ", id="no kind"
        ),
        pytest.param(SINK + "colour = 1\n", SINK_KEYS, id="a key that a kind of sink does not have"),
        pytest.param(SINK + "max_mb = 0\n", "sinks[0].max_mb is 0, but must be a number above 0", id="a sink's range"),
        pytest.param(
            SINK + 'types = ["event", "frames"]\n',
            "sinks[0].types[1] is 'frames', but must be one of 'event', 'frame', 'health'",
            id="a value deep in a sink",
        ),
        pytest.param(
            ONE + '[[sinks]]\nkind = "jsonl"\n', "sinks[0].path is missing; it must be text", id="a sink lacks a key"
        ),
        pytest.param(
            ONE + '[[sinks]]\nkind = "csv"\n', "sinks[0].kind is 'csv', but must be one of 'jsonl', ", id="kind"
        ),
        pytest.param(SINK + "queue = 0\n", "sinks[0].queue is 0, but must be a whole number", id="a sink's queue"),
        pytest.param(
            SINK + SINK.removeprefix(ONE),
            "sinks[1].name is 'jsonl', but must differ from the names of other sinks, and sinks[0] has it already",
            id="two sinks of one name",
        ),
        pytest.param(
            SINK + 'name = "publish"\n', "sinks[0].name is 'publish', but must differ from", id="the name of a section"
        ),
        pytest.param("sinks = 3\n" + ONE, "sinks is 3, but must be an array of tables", id="sinks that are none"),
        pytest.param("sinks = [3]\n" + ONE, "sinks[0] is 3, but must be a table", id="a sink that is none"),
        pytest.param("a = ", "is not valid TOML: Invalid value", id="not TOML"),
        pytest.param(b"\xff\xfe", "is not valid TOML: 'utf-8' codec", id="not UTF-8"),
    ],
)
def test_what_is_refused(write: Any, text: str | bytes, sentence: str) -> None:
    assert refusal(write(text)).startswith(sentence)


def test_a_sink_has_the_settings_of_its_kind(write: Any) -> None:
    text = SINK.replace('"a"', '"${WHERE}/a.jsonl"') + 'name = "archive"\nqueue = 7\ntypes = ["event"]\n'
    (sink,) = load(write(text), {"WHERE": "/tmp"}).sinks
    assert (sink.kind, sink.shown_name, sink.queue) == ("jsonl", "archive", 7)
    assert sink.options == JsonLinesSettings(path="/tmp/a.jsonl", types=("event",))


def test_equal_bounds_are_allowed(write: Any) -> None:
    config = load(write(ONE + "reconnect_min_s = 2\nreconnect_max_s = 2\n"))
    assert config.streams[0].reconnect_min_s == config.streams[0].reconnect_max_s


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml") == "cannot be read: No such file or directory"


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "cannot be read: Is a directory"


def test_variables_are_filled_in_wherever_they_stand(write: Any) -> None:
    path = write(ONE.replace('"0"', '"rtsp://${USER}:${PASS}@cam/$5"') + '[identity]\ngallery = "${DIR}/g.sqlite"\n')
    config = load(path, {"USER": "ada", "PASS": "${USER}", "DIR": "/srv"})
    # A value is not looked through again; as a password it is encoded.
    assert config.streams[0].source == "rtsp://ada:%24%7BUSER%7D@cam/$5"
    assert config.identity.gallery == "/srv/g.sqlite"


def test_a_variable_may_be_empty(write: Any) -> None:
    assert load(write(ONE.replace('"0"', '"a${EMPTY}b"')), {"EMPTY": ""}).streams[0].source == "ab"


def test_the_real_environment_is_the_default(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_TEST_SOURCE", "clip.mp4")
    assert load(write(ONE.replace('"0"', '"${TRUNKLINE_TEST_SOURCE}"'))).streams[0].source == "clip.mp4"


def test_an_unset_variable_is_named(write: Any) -> None:
    sentence = refusal(write(ONE.replace('"0"', '"rtsp://u:${DOOR_PASSWORD}@cam"')))
    assert sentence == "streams[0].source needs the environment variable DOOR_PASSWORD, which is not set"


@pytest.mark.parametrize("text", ["${}", "${A B}", "${A", "x${", "${A:-b}"])
def test_a_variable_that_is_none(write: Any, text: str) -> None:
    sentence = refusal(write(ONE.replace('"0"', f'"{text}"')), {"A": "a"})
    assert sentence == "streams[0].source has a ${ without the name of a variable and a closing brace after it"


def test_the_value_of_a_variable_is_not_shown(write: Any) -> None:
    path = write(ONE + 'pace = "${PACE}"\n')
    assert refusal(path, {"PACE": "hunter2"}).startswith("streams[0].pace is '${PACE}', but must be one of")
    path = write(TWO.replace("yard", "${NAME}"))
    assert refusal(path, {"NAME": "door"}).startswith("streams[1].name is '${NAME}', but must differ")


@pytest.mark.parametrize(
    ("written", "environment", "source"),
    [
        ("rtsp://ada:${P}@cam/1", {"P": "p@ss:w/rd?#1"}, "rtsp://ada:p%40ss%3Aw%2Frd%3F%231@cam/1"),
        ("rtsp://ada:${P}@cam/1", {"P": "p%40ss"}, "rtsp://ada:p%40ss@cam/1"),  # it is encoded already
        ("rtsp://ada:${P}@cam/1", {"P": "100%"}, "rtsp://ada:100%25@cam/1"),
        ("rtsp://${U}:${P}@cam/1", {"U": "a@home", "P": "b/c"}, "rtsp://a%40home:b%2Fc@cam/1"),
        ("rtsp://${UP}@cam/1", {"UP": "ada:b/c:d"}, "rtsp://ada:b%2Fc%3Ad@cam/1"),
        ("rtsp://cam/${PATH_OF}?key=${P}", {"PATH_OF": "a/b", "P": "c@d"}, "rtsp://cam/a/b?key=c@d"),
        ("${ALL}", {"ALL": "rtsp://ada:secret@cam/1"}, "rtsp://ada:secret@cam/1"),
    ],
)
def test_a_variable_in_the_place_of_a_password_is_encoded(
    write: Any, written: str, environment: dict[str, str], source: str
) -> None:
    (stream,) = load(write(ONE.replace('"0"', f'"{written}"')), environment).streams
    assert stream.source == source
    assert stream.source.written == written  # type: ignore[attr-defined]


def test_a_password_of_a_wrong_type_is_not_shown(write: Any) -> None:
    assert refusal(write(ONE + "password = 12345\n")) == "streams[0].password is ***, but must be text in quotes"


def test_processes_have_no_standard_input(write: Any) -> None:
    text = 'links = "zmq"\n' + ONE.replace('"0"', '"-"')
    assert refusal(write(text)).startswith('streams[0].source is "-", but must be something else with links = "zmq"')


@given(secret=st.text(alphabet="@:/?#%$ abc\"'\\", max_size=8))
def test_a_password_never_gets_through(secret: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "secret.toml"
    source = json.dumps(f"rtsp://ada:HUNTER2{secret}@cam/")  # TOML takes JSON's quoting
    path.write_text(f"[[streams]]\nname = {source}\nsource = {source}\n")
    assert "HUNTER2" not in refusal(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configurations_beside_the_code_load(path: Path) -> None:
    class Anything(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            return True

        def __missing__(self, name: str) -> str:
            return "x"

    load(path, Anything(os.environ))


def test_there_are_configurations_to_load() -> None:
    assert {path.name for path in CONFIGS} >= {"camera.toml", "demo.toml", "site.toml"}


def test_zones_and_lines_belong_to_the_stream_above_them(write: Any) -> None:
    gate = '[[streams.lines]]\nname = "gate"\npoints = [[0.2, 0.5], [0.8, 0.5]]\n'
    config = load(write(ONE + ZONE + "points = [[0, 0], [1, 0], [1, 1]]\ndwell_s = 5\n" + TWO.removeprefix(ONE) + gate))
    (door, yard) = config.streams
    assert [zone.name for zone in door.zones] == ["lawn"] and not door.lines
    assert door.zones[0].dwell_s == 5.0
    assert [line.points for line in yard.lines] == [((0.2, 0.5), (0.8, 0.5))] and not yard.zones
