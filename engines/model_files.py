"""What a file of a model folder may be: a plain file in the folder, of a bounded size, with all of itself in it."""

import re
from pathlib import Path
from typing import Final

import msgspec

from engines.errors import ModelError

MAX_SPEC_BYTES: Final = 2**20
MAX_FILE_BYTES: Final = 2**31  # of an ONNX file: protobuf itself has no more
CHUNK: Final = 2**22
# TensorProto.external_data, field 13, whose first entry has the key "location" (onnx.proto3): a tensor elsewhere.
EXTERNAL: Final = re.compile(rb"\x6a.{1,3}\x0a\x08location\x12", re.DOTALL)
OVERLAP: Final = 32  # bytes, more than what is looked for has


def model_file(folder: Path, name: str) -> Path:
    """Return a file that a model's ``spec.json`` names.

    Raises:
        ModelError: it is missing, is not in the folder itself, is larger than 2 GiB, or has tensors in other files.
    """
    if not name or Path(name).name != name or name == "..":
        raise ModelError(f"model {folder}: spec.json names {name!r}, but must name files of the folder itself")
    file = folder / name
    if not file.is_file():
        raise ModelError(f"model {folder}: {name} is missing")
    if (size := file.stat().st_size) > MAX_FILE_BYTES:
        raise ModelError(f"model {folder}: {name} has {size} bytes, but must have at most {MAX_FILE_BYTES}")
    if file.suffix == ".onnx" and _has_external(file):
        raise ModelError(f"model {folder}: {name} has tensors in other files, but must have all of them in itself")
    return file


def spec_bytes(file: Path) -> bytes:
    """Return the content of a ``spec.json``; OSError, or ModelError where it has more than 1 MiB."""
    with file.open("rb") as opened:
        content = opened.read(MAX_SPEC_BYTES + 1)
    if len(content) > MAX_SPEC_BYTES:
        raise ModelError(f"model {file.parent}: {file.name} has more than {MAX_SPEC_BYTES} bytes")
    return content


def check_format(content: bytes, known: int, file: Path) -> None:
    """Raise ModelError where a ``spec.json`` was written by a later version; one of UNDECODABLE where it is none."""
    found = msgspec.json.decode(content, type=_Written).format
    if isinstance(found, int) and found > known:
        raise ModelError(f"model {file.parent}: {file.name} has format {found}, this version reads format {known}")


class _Written(msgspec.Struct):
    """The part of a ``spec.json`` that every version has."""

    format: object = None


def _has_external(file: Path) -> bool:
    before = b""
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            if EXTERNAL.search(before + chunk):
                return True
            before = chunk[-OVERLAP:]
    return False
