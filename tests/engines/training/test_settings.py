from pathlib import Path

import msgspec
import pytest

from engines.errors import ConfigError
from engines.training.settings import TrainingSettings, load_settings

ROOT = Path(__file__).parents[3]
SCENE = 'scene = { format = "folders", folders = ["a"] }'
GOOD = """
name = "x"
steps = 10

[[datasets]]
name = "rooms"
scene = { format = "folders", folders = ["a"] }
batch = 2
size = 64

[[datasets]]
name = "people"
identity = { format = "folders", folders = ["b"] }
batch = 2
size = 112
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "x.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "configs/training").glob("[ns]*.toml")), ids=lambda path: path.name)
def test_every_configuration_that_comes_along_loads(path: Path) -> None:
    settings = load_settings(path)
    assert settings.name == path.stem.partition("-")[0]
    assert {entry.name for entry in settings.datasets} >= {"detection", "groups", "portraits", "scenes", "people"}


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    assert [entry.kind for entry in settings.datasets] == ["scene", "identity"]
    assert settings == msgspec.convert(
        {"name": "x", "steps": 10, "datasets": [msgspec.to_builtins(entry) for entry in settings.datasets]},
        TrainingSettings,
    )


def test_settings_survive_the_checkpoints_json(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    assert msgspec.json.decode(msgspec.json.encode(settings), type=TrainingSettings) == settings


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "x"', "", r"missing required field `name`"),
        ("steps = 10", "steps = 0", r"`int` >= 1 - at `\$\.steps`"),
        ("steps = 10", 'steps = "ten"', r"Expected `int`, got `str` - at `\$\.steps`"),
        ("steps = 10", "steps = 10\nspeed = 3", r"unknown field `speed`"),
        ("steps = 10", "steps = 10\nwarmup_steps = -1", r"\$\.warmup_steps"),
        ("steps = 10", "steps = 10\nphases = [{ share = 0.5 }]", r"phases must have shares that sum to 1, got 0\.5"),
        ("steps = 10", 'steps = 10\nprecision = "fp8"', r"Invalid enum value 'fp8' - at `\$\.precision`"),
        ("steps = 10", "steps = 10\nnetwork.channels = [8, 8]", r"\$\.network\.channels"),
        ("steps = 10", 'steps = 10\nnetwork.activation = "gelu"', r"'gelu' - at `\$\.network\.activation`"),
        ("steps = 10", "steps = 10\nloss.poses = 1.0", r"unknown field `poses` - at `\$\.loss`"),
        ('format = "folders"', 'format = "voc"', r"'voc' - at `\$\.datasets\[0\]\.scene"),
        ('format = "folders"', 'format = "csv"', r"'csv' - at `\$\.datasets\[0\]\.scene"),
        ('name = "people"', 'name = "rooms"', r"names of their own, got rooms, rooms"),
        ("size = 64", 'size = 64\nimages = "c"', r"images must be left out where folders are the labels, got 'c'"),
        ("size = 64", 'size = 64\nfaces_from = "c"', r"faces_from must name a dataset that labels faces, got 'c'"),
        ("size = 64", 'size = 64\ngroup = "("', r"group must be a regular expression, got '\('"),
        ("size = 64", "size = 64\ncanvas = 63", r"canvas must be even, got 63"),
        ("size = 64", "size = 64\naugmentation.paste_faces = 0.5", r"paste_faces must be 0 for scene"),
        (SCENE, 'objects = { format = "coco", file = "c" }', r"images must name the folder of the pictures of 'rooms'"),
        (SCENE, "", r"'rooms' must label objects and faces, or scene, or identity, or one task under labels"),
        (SCENE, f'{SCENE}\nimages = "c"\nfaces = {{ format = "wider", file = "d" }}', r"and just one"),
        (SCENE, 'images = "c"\nfaces = { format = "voc", annotations = "d" }', r"must say which classes are faces"),
        (
            SCENE,
            'images = "c"\nobjects = { format = "coco", file = "d", points = "e" }',
            r"points must be left out of objects, which have none, got 'e'",
        ),
        (
            SCENE,
            'images = "c"\nobjects = { format = "coco", file = "d" }\naugmentation.paste_faces = 0.5',
            r"paste_faces must be 0 without faces",
        ),
        ("size = 64", "size = 60", r"size must be a multiple of 32 for scene, got 60 - at `\$\.datasets\[0\]`"),
        (
            "size = 112",
            "size = 96",
            r"size and canvas must be 112 for identity, got 96 and 112 - at `\$\.datasets\[1\]`",
        ),
        ("size = 64", "size = 64\nmosaic = 0.5", r"mosaic must be 0 for scene.*got 0\.5 - at `\$\.datasets\[0\]`"),
        (
            "size = 64",
            "size = 64\naugmentation.scale = [0.0, 1.0]",
            r"scale must rise from more than 0, got \[0\.0, 1\.0\] - at `\$\.datasets\[0\]\.augmentation`",
        ),
        ("size = 64", "size = 64\naugmentation.scale = [2.0, 1.0]", r"scale must rise"),
        (GOOD, 'name = "x"\nsteps = 1\ndatasets = []', r"length >= 1 - at `\$\.datasets`"),
        (GOOD, "name = ", r"Invalid value"),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said) as refused:
        load_settings(path)
    assert str(path) in str(refused.value), "the file is named"
    assert "\n" not in str(refused.value)


def test_a_coco_set_of_ones_own_takes_five_lines(tmp_path: Path) -> None:
    text = """
name = "own"
steps = 1000
[[datasets]]
name = "shop"
images = "images"
objects = { format = "coco", file = "instances.json" }
"""
    (entry,) = load_settings(write(tmp_path, text)).datasets
    assert (entry.kind, entry.batch, entry.size, entry.canvas) == ("boxes", 16, 288, 384)


def test_a_size_brings_a_canvas_that_suits_it(tmp_path: Path) -> None:
    rooms, people = load_settings(write(tmp_path, GOOD)).datasets
    assert (rooms.size, rooms.canvas) == (64, 96)
    assert (people.size, people.canvas) == (112, 112)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read: No such file"):
        load_settings(tmp_path / "nothing.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.toml"):
        load_settings(write(tmp_path, b"\xff\xfe\x00"))


def test_a_base_is_what_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'name = "wide"\nsteps = 9\n[network]\nneck = 64\ntowers = 2\n[[datasets]]\nname = "a"\n[datasets.scene]\n'
        'format = "folders"\nfolders = ["a"]\n'
    )
    file = tmp_path / "narrow.toml"
    file.write_text('base = "base.toml"\nname = "narrow"\n[network]\nneck = 32\n')
    found = load_settings(file)
    assert (found.name, found.steps, found.network.neck, found.network.towers) == ("narrow", 9, 32, 2)
    assert [each.name for each in found.datasets] == ["a"]
    (tmp_path / "third.toml").write_text('base = "narrow.toml"')
    with pytest.raises(ConfigError, match=r"base 'narrow.toml' has a base itself, but only one is allowed"):
        load_settings(tmp_path / "third.toml")
    file.write_text('base = "none.toml"')
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read"):
        load_settings(file)
