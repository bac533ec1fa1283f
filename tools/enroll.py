"""``trunkline enroll``: a person goes into the gallery."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from engines.engine import open_engine
from engines.spec import load_model
from pipeline.config import ModelSettings
from pipeline.enrolling import FaceReader, enroll_photos
from pipeline.gallery import Gallery

BackendChoice = Literal["auto", "tensorrt", "openvino", "onnxruntime", "torch"]  # typer takes no union of literals


def enroll(
    name: Annotated[str, typer.Argument(help="Who it is, as it will stand in the messages.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos that show this person alone.")],
    gallery: Annotated[Path, typer.Option(help="The gallery file; made when it is missing.")],
    model: Annotated[Path, typer.Option(help="The model folder.")] = Path(ModelSettings().path),
    backend: Annotated[BackendChoice, typer.Option(help="What runs the model.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add a person to the gallery; a running pipeline knows them at once.

    Nothing is stored when one of the photos shows no face, or several.

    Example: trunkline enroll Ada ada1.jpg ada2.jpg --gallery people.sqlite
    """
    loaded = load_model(model)
    loaded.require(("faces", "identity"), "enroll")
    with (
        Gallery(gallery, loaded.fingerprint) as opened,
        open_engine(loaded, "frame", backend) as frame_engine,
        open_engine(loaded, "face", backend) as face_engine,
    ):
        reader = FaceReader(loaded.spec, frame_engine, face_engine)
        qualities = enroll_photos(reader, opened, name, photos)
    if as_json:
        views = [
            {"photo": str(photo), "quality": round(quality, 3)}
            for photo, quality in zip(photos, qualities, strict=True)
        ]
        typer.echo(json.dumps({"name": name.strip(), "gallery": str(gallery), "photos": views}))
        return
    for photo, quality in zip(photos, qualities, strict=True):
        typer.echo(f"{photo}: quality {quality:.2f}")
    typer.echo(f"{name.strip()} is in {gallery} with {len(photos)} more photo{'' if len(photos) == 1 else 's'}")
