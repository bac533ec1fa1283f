"""``trunkline gallery``: who is in the gallery and for how long, and how they come along elsewhere."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from engines.engine import open_engine
from engines.errors import DamagedGallery, GalleryError
from engines.files import write_private
from engines.spec import load_model
from pipeline.gallery.enrolling import reenroll as enroll_again
from pipeline.gallery.export import Export, export_gallery, import_people, read_export, salvage
from pipeline.gallery.gallery import Gallery, Person, agreed
from pipeline.settings.schema import GALLERY, ModelSettings
from tools.enroll import BackendOption
from tools.output import json_of

app = typer.Typer(
    no_args_is_help=True,
    help="List, remove, export or import the people in the gallery, enrol them again, or change when they expire.",
    epilog="Example: trunkline gallery list --gallery people.sqlite",
)

GalleryFile = Annotated[Path, typer.Option("--gallery", help="The gallery file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NEVER: Final = "never"
READ_IN_PART: Final = 3  # exit status


@app.command("list")
def list_people(gallery: GalleryFile = Path(GALLERY), as_json: AsJson = False) -> None:
    """Show everyone in the gallery, those who have expired too.

    Example: trunkline gallery list --gallery people.sqlite
    """
    with Gallery(gallery) as opened:
        people, model = opened.people(), opened.model
    if as_json:
        typer.echo(msgspec.json.encode({"model": model, "people": people}))
        return
    table = Table(title=f"{gallery}, model {model}; times are UTC")
    for column in ("name", "views", "photos kept", "since", "consent", "expires"):
        table.add_column(column, overflow="fold")
    for person in people:
        table.add_row(
            person.name,
            str(person.embeddings),
            str(person.photos),
            _minute(person.added_at),
            person.consent or "",
            _expiry(person),
            style="red" if person.expired else None,
        )
    Console().print(table)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Who is to be deleted.")],
    gallery: GalleryFile = Path(GALLERY),
    as_json: AsJson = False,
) -> None:
    """Delete a person, and every trace of them from the file.

    Example: trunkline gallery remove Ada --gallery people.sqlite
    """
    with Gallery(gallery) as opened:
        count = opened.remove(name)
    if as_json:
        typer.echo(msgspec.json.encode({"removed": name, "embeddings": count}))
        return
    typer.echo(f"{name} and {count} embedding{'' if count == 1 else 's'} were deleted from {gallery}")


@app.command()
def expire(
    name: Annotated[str, typer.Argument(help="Who.")],
    until: Annotated[
        str,
        typer.Argument(metavar="DATE", help=f"The last day they are known (UTC), a moment with its zone, or {NEVER}."),
    ],
    gallery: GalleryFile = Path(GALLERY),
    consent: Annotated[str | None, typer.Option(help="A new note on what they agreed to, and when.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change until when a person is known, also of one who has expired.

    Example: trunkline gallery expire Ada 2028-11-30 --gallery people.sqlite
    """
    terms = agreed(consent, None if until == NEVER else until)
    with Gallery(gallery) as opened:
        opened.expire(name, terms)
    if as_json:
        typer.echo(msgspec.json.encode({"name": name, "expires_at": terms.expires_at}))
        return
    moment = NEVER if terms.expires_at is None else f"at {_minute(terms.expires_at)} UTC"
    typer.echo(f"{name} expires {moment}")


@app.command()
def purge(gallery: GalleryFile = Path(GALLERY), as_json: AsJson = False) -> None:
    """Delete all who have expired, and every trace of them from the file.

    Example: trunkline gallery purge --gallery people.sqlite
    """
    with Gallery(gallery) as opened:
        names = opened.purge()
    if as_json:
        typer.echo(msgspec.json.encode({"removed": names}))
        return
    typer.echo(f"deleted from {gallery} since they had expired: {', '.join(names)}" if names else "nobody had expired")


@app.command()
def reenroll(
    gallery: GalleryFile = Path(GALLERY),
    model: Annotated[Path, typer.Option(help="The folder of the model to go over to.")] = Path(ModelSettings().path),
    backend: BackendOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Enrol everyone again with another model, from the photos that are kept; all of them or nobody.

    Example: trunkline gallery reenroll --gallery people.sqlite --model runs/mine/model
    """
    loaded = load_model(model)
    loaded.require(("identity",), "gallery reenroll")
    with (
        Gallery(gallery) as opened,
        open_engine(loaded, "face", backend) as face_engine,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("enrolling again", total=opened.size)
        made, gone = enroll_again(face_engine, opened, loaded.fingerprint, lambda: progress.advance(bar))
    if as_json:
        typer.echo(msgspec.json.encode({"model": loaded.fingerprint, "embeddings": made, "without_photo": gone}))
        return
    typer.echo(f"{gallery} has {made} embeddings of model {loaded.fingerprint}")
    if gone:
        typer.echo(f"{gone} that had no photo are gone; everyone has others")


@app.command()
def export(
    gallery: GalleryFile = Path(GALLERY),
    out: Annotated[Path | None, typer.Option(help="File to write; standard output when not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write everything the gallery holds as JSON, embeddings and photos too; of a damaged one, what can be read.

    Example: trunkline gallery export --gallery people.sqlite --out people.json
    """
    exported, lost = _exported(gallery)
    text = json_of(exported)
    if out is None:
        typer.echo(text)
    else:
        try:
            write_private(out, text.encode())
        except OSError as error:
            raise GalleryError(f"export {out}: cannot be written: {error.strerror}") from error
        said = {"file": str(out), "people": len(exported.people)}
        typer.echo(msgspec.json.encode(said) if as_json else f"{len(exported.people)} people are in {out}")
    if lost:
        typer.echo(
            f"warning: {gallery} is damaged: {lost} of its rows could not be read, or belong to nobody", err=True
        )
        raise typer.Exit(READ_IN_PART)


def _exported(gallery: Path) -> tuple[Export, int]:
    try:
        with Gallery(gallery) as opened:
            return export_gallery(opened), 0
    except DamagedGallery:
        return salvage(gallery)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="What `trunkline gallery export` wrote.")],
    gallery: GalleryFile = Path(GALLERY),
    replace: Annotated[bool, typer.Option("--replace", help="Replace people of the same name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring everyone of an export into the gallery, which is made when there is none; all of them or nobody.

    Example: trunkline gallery import people.json --gallery people.sqlite
    """
    imported = import_people(gallery, read_export(file), replace)
    if as_json:
        typer.echo(msgspec.json.encode(imported))
        return
    people, views = len(imported.people), imported.embeddings
    typer.echo(
        f"{people} {'person' if people == 1 else 'people'} with {views} embedding{'' if views == 1 else 's'} "
        f"came into {gallery}"
    )
    if imported.replaced:
        typer.echo(f"replaced: {', '.join(imported.replaced)}")


def _expiry(person: Person) -> str:
    if person.expires_at is None:
        return "never"
    return f"{'expired ' if person.expired else ''}{_minute(person.expires_at)}"


def _minute(moment: str) -> str:
    """An RFC 3339 moment, shorter."""
    return moment[:16].replace("T", " ")
