"""The console command ``trunkline``: which verbs there are, logging, and what becomes of errors."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from engines.errors import ConfigError, TrunklineError

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb's line in ``trunkline --help``, and how to get at it: modules are imported when their verb is used."""

    summary: str
    load: Callable[[], Callable[..., None] | typer.Typer]


def _run() -> Callable[..., None]:
    from tools.run import run

    return run


def _subscribe() -> Callable[..., None]:
    from tools.subscribe import subscribe

    return subscribe


def _view() -> Callable[..., None]:
    from tools.view import view

    return view


def _demo() -> Callable[..., None]:
    from tools.demo import demo

    return demo


def _events() -> typer.Typer:
    from tools.events import app

    return app


def _streams() -> typer.Typer:
    from tools.streams import app

    return app


def _reload() -> Callable[..., None]:
    from tools.streams import reload

    return reload


def _tune() -> Callable[..., None]:
    from tools.streams import tune

    return tune


def _enroll() -> Callable[..., None]:
    from tools.enroll import enroll

    return enroll


def _gallery() -> typer.Typer:
    from tools.gallery import app

    return app


def _benchmark() -> typer.Typer:
    from tools.benchmark import app

    return app


def _check_config() -> Callable[..., None]:
    from tools.check_config import check_config

    return check_config


def _curve_keys() -> Callable[..., None]:
    from tools.curve_keys import curve_keys

    return curve_keys


def _doctor() -> Callable[..., None]:
    from tools.doctor import doctor

    return doctor


def _soak() -> Callable[..., None]:
    from tools.soak import soak

    return soak


def _data() -> typer.Typer:
    from tools.data import app

    return app


def _train() -> Callable[..., None]:
    from tools.train import train

    return train


def _average() -> Callable[..., None]:
    from tools.average import average

    return average


def _evaluate() -> typer.Typer:
    from tools.evaluate import app

    return app


def _crossval() -> Callable[..., None]:
    from tools.crossval import crossval

    return crossval


def _compile() -> Callable[..., None]:
    from tools.compile import compile_model

    return compile_model


def _import() -> Callable[..., None]:
    from tools.import_detector import import_model

    return import_model


def _plan() -> Callable[..., None]:
    from tools.plan import plan_machine

    return plan_machine


VERBS = {
    "demo": Verb("Show the whole of it on a clip, a camera or a stream.", _demo),
    "run": Verb("Watch the streams of a configuration and publish what is seen.", _run),
    "view": Verb("Show a run in a browser: live pictures, events, people.", _view),
    "subscribe": Verb("Print the messages of a running Trunkline.", _subscribe),
    "events": Verb("List, show, export and delete the events that a run keeps.", _events),
    "streams": Verb("List, add, change and remove the streams of a run that goes on.", _streams),
    "tune": Verb("Change thresholds and rates of a run that goes on.", _tune),
    "reload": Verb("Have a run read its configuration again.", _reload),
    "enroll": Verb("Add a person to the gallery.", _enroll),
    "gallery": Verb("List, remove, export or import the people in the gallery.", _gallery),
    "check-config": Verb("Say whether a configuration is allowed.", _check_config),
    "curve-keys": Verb("Make the keys that publishing beyond this host needs.", _curve_keys),
    "doctor": Verb("Say what this machine has and which engine it gets.", _doctor),
    "benchmark": Verb("Measure how fast this machine is; compare two reports.", _benchmark),
    "soak": Verb("Run for hours under faults; say what was lost, and what grew.", _soak),
    "plan": Verb("Say which machine some streams need, from a minute's measurement.", _plan),
    "data": Verb("Check and look at the training data.", _data),
    "train": Verb("Train the network.", _train),
    "average": Verb("Take the mean of a run's weights and of those that it began with.", _average),
    "evaluate": Verb("Score a model, or the tracker, on a folder of data; do a study.", _evaluate),
    "crossval": Verb("Train and score a configuration fold by fold; compare settings.", _crossval),
    "compile": Verb("Make a model folder from a checkpoint.", _compile),
    "import": Verb("Make a model folder from a detector's ONNX file.", _import),
}


RENAMED = {"report": "evaluate, whose --help names the studies"}


class Verbs(TyperGroup):
    """Shows all verbs, imports one, and turns a TrunklineError into its sentence and a non-zero exit status."""

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
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def _command(name: str) -> Any:
    loaded = VERBS[name].load()
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
