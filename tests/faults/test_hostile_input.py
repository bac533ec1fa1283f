"""What people and networks give: right, or a TrunklineError of one line; never anything else, and never for long."""

import io
import resource
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from engines.errors import (
    ConfigError,
    DamagedGallery,
    DataError,
    GalleryError,
    MessageError,
    ModelError,
    TrunklineError,
)
from engines.pictures import decode_rgb
from engines.spec import load_model
from pipeline.gallery.export import export_gallery, read_export
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.views import decode_photo
from pipeline.settings.load import parse
from pipeline.wire.messages import decode
from pipeline.wire.packets import unpack_packet
from pipeline.wire.remote import unpack
from tests.faults.made_mutations import bits_flipped, mutations
from tests.pipeline.made_runs import write_model

GOLDEN = Path(__file__).parents[1] / "golden" / "messages.txt"
LONGEST_S = 5.0  # for any one input
MOST_MB = 300.0  # that any one input may cost

CONFIG = """
[[streams]]
name = "door"
source = "rtsp://ada:${SECRET}@camera.example/1"
password = "${SECRET}"
forward = "tcp://ada:${SECRET}@10.0.0.1:5000"
zones = [{ name = "lawn", points = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]], labels = ["person"] }]
[[streams]]
name = "yard"
source = "yard.mp4"
[publish]
address = "tcp://ada:${SECRET}@127.0.0.1:5555"
[[sinks]]
kind = "jsonl"
name = "${SECRET}"
path = "${SECRET}"
"""
SECRET = "hunter2"


@contextmanager
def bounded() -> Iterator[None]:
    """Neither long, in time of this process, nor large: of its memory the high-water mark only rises."""
    began_s, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - began_s < LONGEST_S
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MOST_MB


def refused(error: type[TrunklineError], read: Callable[[bytes], object], body: bytes) -> bool:
    with bounded():
        try:
            read(body)
        except error as refusal:
            assert str(refusal) and "\n" not in str(refusal)
            return True
    return False


def goldens() -> list[bytes]:
    lines = [line.partition(b" {") for line in GOLDEN.read_bytes().splitlines()]
    texts = [b"{" + rest for _, found, rest in lines if found]
    return texts + [msgspec.msgpack.encode(decode(text)) for text in texts]


def test_a_damaged_message_is_right_or_refused() -> None:
    assert sum(refused(MessageError, decode, body) for body in mutations(goldens(), 2000)) > 1000


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"x":' + b"[" * 100_000, id="arrays"),
        pytest.param(b'{"type":"frame","x":' + b'{"a":' * 100_000, id="objects"),
        pytest.param(b"\x81\xa1x" + b"\x91" * 100_000, id="MessagePack"),
        pytest.param(b'{"type":"frame","stream":"\xc3("}', id="no UTF-8"),
    ],
)
def test_a_message_nested_too_deeply_or_of_no_text_is_refused(body: bytes) -> None:
    assert refused(MessageError, decode, body)
    assert refused(MessageError, unpack_packet, body)
    assert refused(MessageError, lambda header: unpack([header], "door", None), body)  # type: ignore[arg-type]


def read_config(text: bytes) -> None:
    parse(text.decode(errors="replace"), "site.toml", {"SECRET": SECRET})


def test_a_damaged_configuration_is_right_or_refused_and_its_secret_is_not_told() -> None:
    def read(text: bytes) -> None:
        try:
            read_config(text)
        except ConfigError as error:
            assert SECRET not in str(error)
            raise

    assert sum(refused(ConfigError, read, text) for text in mutations([CONFIG.encode()], 100)) > 50


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a=" + "[" * 100_000, id="arrays"),
        pytest.param("a=" + "[{a=" * 3000, id="tables in arrays"),
        pytest.param("a=" + "{b=" * 3000, id="tables"),
        pytest.param("a." * 200_000 + "a=1", id="a long key"),
        pytest.param("[" + "a." * 200_000 + "a]", id="a long table"),
        pytest.param("\n".join(f"a{i}." + "b." * 200 + "b=1" for i in range(2000)), id="many long keys"),
        pytest.param(
            "\n".join(f'"a{i}" . ' + "'b' . " * 200 + "b=1" for i in range(700)), id="many long keys in quotes"
        ),
        pytest.param("a=1" + "0" * 100_000, id="a long number"),
        pytest.param('a="' + "x" * 10_000_000 + '"', id="a long text"),
        pytest.param('a="${' + "x" * 500_000, id="an open variable"),
        pytest.param('a="' + "-" * 500_000 + '"', id="a long name without dots"),
        pytest.param("[[streams]]\n" * 80_000, id="many streams"),
    ],
)
def test_a_configuration_made_to_take_long_is_refused(text: str) -> None:
    assert refused(ConfigError, read_config, text.encode())


def write_gallery(path: Path) -> bytes:
    with Gallery(path, "f" * 64) as gallery:
        for person in range(30):
            views = np.random.default_rng(person).normal(size=(3, 128)).astype(np.float32)
            gallery.enroll(f"Zoë {person}", views, ["a", "b", "c"], terms=Terms("said so", "2099-01-01T00:00:00.000Z"))
        gallery.file.empty_log()
    return path.read_bytes()


def test_a_gallery_with_flipped_bits_is_right_or_refused(tmp_path: Path) -> None:
    original, path, count = write_gallery(tmp_path / "good.sqlite"), tmp_path / "bad.sqlite", 0
    uses: list[Callable[[Gallery], object]] = [
        Gallery.people,
        Gallery.snapshot,
        lambda gallery: list(gallery.photos()),
        lambda gallery: (gallery.model, gallery.revision, gallery.size),
        lambda gallery: gallery.enroll("New", np.ones((1, 128), np.float32), ["x"]),
        lambda gallery: gallery.remove("Zoë 3"),
    ]
    for number, content in enumerate(bits_flipped(original, 40)):
        for left in tmp_path.glob("bad.sqlite*"):
            left.unlink()
        path.write_bytes(content)
        try:
            with bounded(), Gallery(path, "f" * 64) as gallery:
                uses[number % len(uses)](gallery)
        except GalleryError:
            count += 1
    assert count > 4


def test_a_gallery_whose_names_are_no_text_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "people.sqlite"
    path.write_bytes(write_gallery(path).replace("Zoë 3".encode(), b"Zo\xff\xff 3"))
    with Gallery(path) as gallery, pytest.raises(DamagedGallery, match="is damaged"):
        gallery.people()


def test_a_damaged_export_is_right_or_refused(tmp_path: Path) -> None:
    write_gallery(tmp_path / "people.sqlite")
    with Gallery(tmp_path / "people.sqlite") as gallery:
        original = msgspec.json.encode(export_gallery(gallery))
    file = tmp_path / "people.json"

    def read(content: bytes) -> None:
        file.write_bytes(content)
        read_export(file)

    assert sum(refused(GalleryError, read, content) for content in mutations([original], 20)) > 8


def test_a_damaged_model_is_right_or_refused(tmp_path: Path) -> None:
    original = (write_model(tmp_path).path / "spec.json").read_bytes()

    def read(content: bytes) -> None:
        (tmp_path / "spec.json").write_bytes(content)
        load_model(tmp_path)

    assert sum(refused(ModelError, read, content) for content in mutations([original], 50)) > 30
    assert refused(ModelError, read, b'{"format":' + b"[" * 100_000)


def jpeg_that_claims(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    start = content.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("size", [(20_000, 20_000), (65_500, 65_500), (10_000, 10_000)])
def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_takes_memory(size: tuple[int, int]) -> None:
    with bounded(), pytest.raises(DataError, match="more than 67108864 pixels"):
        decode_rgb(jpeg_that_claims(*size), "photo.jpg")
    with bounded(), pytest.raises(GalleryError, match="112x112"):
        decode_photo(jpeg_that_claims(*size))


def test_a_damaged_photo_is_right_or_refused() -> None:
    file = io.BytesIO()
    Image.effect_noise((96, 96), 60).convert("RGB").save(file, "JPEG")
    originals = [file.getvalue()]
    pillow_heif.register_heif_opener()
    for kind in ("PNG", "WEBP", "BMP", "TIFF", "AVIF", "HEIF"):
        file = io.BytesIO()
        Image.effect_noise((48, 48), 60).convert("RGB").save(file, kind)
        originals.append(file.getvalue())
    for content in mutations(originals, 200):
        refused(DataError, lambda body: decode_rgb(body, "photo"), content)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param('name = "${SECRET}"\nsource = "x"\n[[streams]]\nname = "${SECRET}"\nsource = "y"', id="streams"),
        pytest.param(
            'name = "door"\nsource = "x"\n' + '[[sinks]]\nkind = "jsonl"\nname = "${SECRET}"\npath = "a"\n' * 2,
            id="sinks",
        ),
        pytest.param(
            'name = "door"\nsource = "x"\n'
            + '[[streams.zones]]\nname = "${SECRET}"\npoints = [[0, 0], [1, 0], [0, 1]]\n' * 2,
            id="zones",
        ),
        pytest.param('name = "door"\nsource = "x"\npassword = 7\n[web]\naddress = "${SECRET}"', id="the page"),
    ],
)
def test_what_a_variable_holds_is_not_told_of_what_is_refused(rest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[[streams]]\n" + rest, "site.toml", {"SECRET": SECRET})
    assert SECRET not in str(caught.value)
