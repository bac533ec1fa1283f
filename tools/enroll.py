"""``trunkline enroll``: people go into the gallery."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from engines.engine import open_engine
from engines.errors import EnrollError
from engines.spec import load_model
from pipeline.gallery.enrolling import (
    EnrolledPhoto,
    EnrollOptions,
    FaceReader,
    RefusedPhoto,
    enroll_people,
    enroll_photos,
    people_in,
)
from pipeline.gallery.gallery import Gallery, agreed, clean_name
from pipeline.gallery.track_requests import Request, enroll_track
from pipeline.settings.schema import GALLERY, ModelSettings

BackendOption = Annotated[str, typer.Option(help="What runs the model: auto, or the name of a backend.")]


def enroll(
    gallery: Annotated[Path, typer.Option(help="The gallery file; made when it is missing.")] = Path(GALLERY),
    name: Annotated[str | None, typer.Argument(help="Who it is, as it will stand in the messages.")] = None,
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PHOTO...", help="Photos that show this person alone.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Enrol everyone in it: a folder of photos per person.")] = None,
    track: Annotated[
        str | None, typer.Option(metavar="STREAM:ID", help="Enrol this face of a running pipeline instead of photos.")
    ] = None,
    consent: Annotated[str | None, typer.Option(help="A note on what was agreed to, and when.")] = None,
    expires: Annotated[str | None, typer.Option(help="Last day to be known, such as 2027-12-31 (UTC).")] = None,
    keep_photos: Annotated[
        bool, typer.Option("--keep-photos", help="Keep the faces, cut out, for another model to enrol again.")
    ] = False,
    accept_poor: Annotated[
        bool, typer.Option("--accept-poor", help="Take blurred, small, turned and badly lit faces, with a warning.")
    ] = False,
    model: Annotated[Path, typer.Option(help="The model folder.")] = Path(ModelSettings().path),
    backend: BackendOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add people to the gallery; a running pipeline knows them at once.

    Nothing is stored when one of a person's photos shows no face, several, or a poor one. Of a folder, all good photos
    are taken, and the others listed with the reason.

    Example: trunkline enroll Ada ada1.jpg ada2.jpg --gallery people.sqlite --consent "signed 2026-11-23"
    """
    _check_choice(name, photos, folder, track)
    options = EnrollOptions(agreed(consent, expires), keep_photos, accept_poor)
    if name is not None and track is not None:
        _from_track(gallery, name, track, options, as_json)
        return
    people, strays = people_in(folder) if folder is not None else ({}, [])
    loaded = load_model(model)
    loaded.require(("faces", "identity"), "enroll")
    with ExitStack() as opened:
        store = opened.enter_context(Gallery(gallery, loaded.fingerprint))
        engines = [opened.enter_context(open_engine(loaded, entry, backend)) for entry in ("frame", "face")]
        reader = FaceReader(loaded.spec, *engines)
        if name is not None:
            taken = enroll_photos(reader, store, name, photos or [], options)
            _say_person(clean_name(name), gallery, taken, as_json)
        else:
            _from_folder(reader, store, people, strays, options, as_json)


def _check_choice(name: str | None, photos: list[Path] | None, folder: Path | None, track: str | None) -> None:
    sources = [photos or None, folder, track]
    if sum(source is not None for source in sources) != 1 or (name is None) != (folder is not None):
        raise EnrollError("enroll takes a NAME with one PHOTO or more, a NAME with --track, or --folder alone")


def _from_track(gallery: Path, name: str, track: str, options: EnrollOptions, as_json: bool) -> None:
    stream, _, number = track.rpartition(":")
    if not stream or not number.isascii() or not number.isdecimal():
        raise EnrollError(f"--track must be STREAM:ID, such as door:17, got {track!r}")
    if options.accept_poor:
        raise EnrollError("--accept-poor is for photos: of a track, only good views are taken")
    with Gallery(gallery) as opened:
        request = Request(stream, int(number), name, options.terms, options.keep_photos)
        qualities = enroll_track(opened, request)
    if as_json:
        views = [round(quality, 3) for quality in qualities]
        _say_json({"name": clean_name(name), "gallery": str(gallery), "track": track, "qualities": views})
    else:
        typer.echo(f"{clean_name(name)} is in {gallery} with {_count(len(qualities), 'more view')} of {track}")


def _from_folder(
    reader: FaceReader,
    gallery: Gallery,
    people: dict[str, list[Path]],
    strays: list[RefusedPhoto],
    options: EnrollOptions,
    as_json: bool,
) -> None:
    enrolled: dict[str, list[EnrolledPhoto]] = {}
    refused = list(strays)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("enrolling", total=sum(map(len, people.values())))
        for name, taken, bad in enroll_people(reader, gallery, people, options):
            enrolled[name] = taken
            refused += bad
            progress.update(bar, advance=len(taken) + len(bad))
    known = {name: taken for name, taken in enrolled.items() if taken}
    if as_json:
        said = {"people": {name: _views(taken) for name, taken in known.items()}, "refused": refused}
        _say_json({"gallery": str(gallery.path)} | said)
    else:
        _say_folder(gallery.path, known, refused)
    if not known:
        raise EnrollError(f"nobody was enrolled: {_count(len(refused), 'photo')} of the folder refused")


def _say_person(name: str, gallery: Path, taken: Sequence[EnrolledPhoto], as_json: bool) -> None:
    if as_json:
        _say_json({"name": name, "gallery": str(gallery), "photos": _views(taken)})
        return
    for each in taken:
        typer.echo(f"{each.photo}: quality {each.quality:.2f}")
    _warn(taken)
    typer.echo(f"{name} is in {gallery} with {_count(len(taken), 'more photo')}")


def _say_folder(gallery: Path, known: dict[str, list[EnrolledPhoto]], refused: Sequence[RefusedPhoto]) -> None:
    for each in refused:
        typer.echo(f"refused: {each.photo}: {each.reason}", err=True)
    for taken in known.values():
        _warn(taken)
    photos = sum(map(len, known.values()))
    typer.echo(
        f"{len(known)} {'person is' if len(known) == 1 else 'people are'} in {gallery} with {_count(photos, 'photo')}; "
        f"{len(refused)} refused"
    )


def _warn(taken: Sequence[EnrolledPhoto]) -> None:
    for each in taken:
        if each.flaw is not None:
            typer.echo(f"warning: {each.photo}: its face {each.flaw}", err=True)


def _views(taken: Sequence[EnrolledPhoto]) -> list[dict[str, object]]:
    return [{"photo": each.photo, "quality": round(each.quality, 3), "flaw": each.flaw} for each in taken]


def _say_json(said: object) -> None:
    typer.echo(msgspec.json.encode(said, enc_hook=str))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
