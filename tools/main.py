"""The console command ``trunkline``: which verbs there are, logging, and what becomes of errors."""

from dataclasses import dataclass
from importlib.metadata import version
from pkgutil import resolve_name
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from engines.errors import ConfigError, TrunklineError

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb's line in ``trunkline --help``, and where it is: modules are imported when their verb is used."""

    summary: str
    place: str  # as entry points name it


VERBS = {
    "demo": Verb("Show the whole of it on a clip, a camera or a stream.", "tools.demo:demo"),
    "run": Verb("Watch the streams of a configuration and publish what is seen.", "tools.run:run"),
    "view": Verb("Show a run in a browser: live pictures, events, people.", "tools.view:view"),
    "subscribe": Verb("Print the messages of a running Trunkline.", "tools.subscribe:subscribe"),
    "events": Verb("List, show, export and delete the events that a run keeps.", "tools.events:app"),
    "streams": Verb("List, add, change and remove the streams of a run that goes on.", "tools.streams:app"),
    "tune": Verb("Change thresholds and rates of a run that goes on.", "tools.streams:tune"),
    "reload": Verb("Have a run read its configuration again.", "tools.streams:reload"),
    "enroll": Verb("Add a person to the gallery.", "tools.enroll:enroll"),
    "gallery": Verb("List, remove, export or import the people in the gallery.", "tools.gallery:app"),
    "check-config": Verb("Say whether a configuration is allowed.", "tools.check_config:check_config"),
    "curve-keys": Verb("Make the keys that publishing beyond this host needs.", "tools.curve_keys:curve_keys"),
    "doctor": Verb("Say what this machine has and which engine it gets.", "tools.doctor:doctor"),
    "benchmark": Verb("Measure how fast this machine is; compare two reports.", "tools.benchmark:app"),
    "soak": Verb("Run for hours under faults; say what was lost, and what grew.", "tools.soak:soak"),
    "plan": Verb("Say which machine some streams need, from a minute's measurement.", "tools.plan:plan_machine"),
    "data": Verb("Check and look at the training data.", "tools.data:app"),
    "train": Verb("Train the network.", "tools.train:train"),
    "average": Verb("Take the mean of the weights of a run and of another one or a model.", "tools.average:average"),
    "evaluate": Verb("Score a model, or the tracker, on a folder of data; do a study.", "tools.evaluate:app"),
    "crossval": Verb("Train and score a configuration fold by fold; compare settings.", "tools.crossval:crossval"),
    "compile": Verb("Make a model folder from a checkpoint.", "tools.compile:compile_model"),
    "import": Verb("Make a model folder from a detector's ONNX file.", "tools.import_detector:import_model"),
}


RENAMED = {"report": "evaluate, whose --help names the studies"}


class Verbs(TyperGroup):
    """Shows all verbs, imports one, and turns a TrunklineError into its sentence and a non-zero exit status.

    So is what the system says of a file that cannot be read or written.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order in which people meet them."""
        return list(VERBS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real verb in place of its line in the help."""
        if args and args[0] in RENAMED:
            raise ConfigError(f"trunkline {args[0]} is now trunkline {RENAMED[args[0]]}")
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else _command(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except TrunklineError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(EXIT_REFUSED) from error
        except OSError as error:
            if error.filename is None:  # it is of no file
                raise
            from pipeline.settings.redact import redact

            typer.echo(f"error: {redact(str(error.filename))}: {error.strerror}", err=True)
            raise typer.Exit(EXIT_REFUSED) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def _command(name: str) -> Any:
    loaded = resolve_name(VERBS[name].place)
    if isinstance(loaded, typer.Typer):
        group = typer.main.get_group(loaded)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False)
    alone.command(name)(loaded)
    return typer.main.get_command(alone)


app = typer.Typer(cls=Verbs, no_args_is_help=True, pretty_exceptions_enable=False)
for _name, _verb in VERBS.items():
    app.command(_name, help=_verb.summary)(lambda: None)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trunkline {version('trunkline')}")
        raise typer.Exit


@app.callback(epilog="Begin with: trunkline demo")
def trunkline(
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Least severe log line to show.")
    ] = "info",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log one JSON object a line.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Watch cameras, streams and files with one multi-task network; publish what was seen as typed messages."""
    from pipeline.runtime.logs import (  # here: structlog takes longer to import than help takes
        LogSettings,
        configure_logging,
    )

    configure_logging(LogSettings(log_level, log_json))


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":  # for launchers that want a module, such as torchrun
    main()
