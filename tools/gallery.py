"""``trunkline gallery``: who is in the gallery, and how they leave it."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import GalleryError
from pipeline.gallery import PRIVATE, Gallery

app = typer.Typer(
    no_args_is_help=True,
    help="List, remove or export the people in the gallery.",
    epilog="Example: trunkline gallery list --gallery people.sqlite",
)

GalleryFile = Annotated[Path, typer.Option("--gallery", help="The gallery file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_people(gallery: GalleryFile, as_json: AsJson = False) -> None:
    """Show everyone in the gallery.

    Example: trunkline gallery list --gallery people.sqlite
    """
    with Gallery(gallery) as opened:
        people, model = opened.people(), opened.model
    if as_json:
        typer.echo(msgspec.json.encode({"model": model, "people": people}))
        return
    table = Table("name", "photos", "since", title=f"{gallery}, model {model}")
    for person in people:
        table.add_row(person.name, str(person.embeddings), person.added_at)
    Console().print(table)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Who is to be deleted.")], gallery: GalleryFile, as_json: AsJson = False
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
def export(
    gallery: GalleryFile,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output when not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write everything the gallery holds as JSON, embeddings too.

    Example: trunkline gallery export --gallery people.sqlite --out people.json
    """
    with Gallery(gallery) as opened:
        exported = opened.export()
    text = msgspec.json.format(msgspec.json.encode(exported))
    if out is None:
        typer.echo(text)
        return
    try:
        out.touch(PRIVATE)
        out.write_bytes(text)
    except OSError as error:
        raise GalleryError(f"export {out}: cannot be written: {error.strerror}") from error
    count = len(exported.people)
    typer.echo(msgspec.json.encode({"file": str(out), "people": count}) if as_json else f"{count} people are in {out}")
