"""``trunkline evaluate --calibrate``: the cosine from which a face is someone, for a stated false-accept rate."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from engines.errors import ConfigError
from engines.spec import IdentityCalibration, Model, write_spec
from tools.output import print_json

if TYPE_CHECKING:
    from engines.evaluation.truth import Truth

PEOPLE = 10


class CalibrationOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    format: int = 1
    model: str
    identity_similarity: float
    calibration: IdentityCalibration
    before: float  # the threshold that spec.json had
    written: bool


def calibrate_identity(
    model: Model, data: "Path | Truth", far: float | None, people: int | None, *, replace: bool, as_json: bool
) -> None:
    """Choose the threshold on the people of ``data``; write it to ``spec.json`` only if it is to ``replace`` the old.

    Raises:
        DataError: the data has no people, or too few to show such a rate.
        ConfigError: the model folder cannot be written.
    """
    from engines.evaluation.report import calibrate_people

    chosen = calibrate_people(model, data, far, PEOPLE if people is None else people)
    assert chosen.identity is not None
    if replace:
        spec = msgspec.structs.replace(model.spec, thresholds=chosen.thresholds, identity_calibration=chosen.identity)
        try:
            write_spec(spec, model.path)
        except OSError as error:
            raise ConfigError(f"--model {model.path}: spec.json cannot be written: {error.strerror}") from error
    outcome = CalibrationOutcome(
        model=model.spec.name,
        identity_similarity=chosen.thresholds.identity_similarity,
        calibration=chosen.identity,
        before=model.spec.thresholds.identity_similarity,
        written=replace,
    )
    if as_json:
        print_json(outcome)
    else:
        _show(outcome, model)


def described(calibration: IdentityCalibration | None) -> str:
    """What a model's identity threshold stands for, in words."""
    if calibration is None:
        return "spec.json does not say for which false-accept rate: choose one with trunkline evaluate --calibrate"
    return (
        f"{calibration.false_accept_rate:.1%} of strangers' tracks are given a name from a gallery of "
        f"{calibration.people}"
    )


def _show(outcome: CalibrationOutcome, model: Model) -> None:
    for each in outcome.calibration.sets:
        typer.echo(
            f"{each.name}: {each.similarity:.3f}, from {each.people} people, {each.tracks} tracks and "
            f"{each.comparisons} comparisons"
        )
    typer.echo(f"identity_similarity {outcome.identity_similarity:.3f}: {described(outcome.calibration)}")
    if outcome.written:
        typer.echo(f"{model.path}: spec.json had {outcome.before:.3f}, now it has {outcome.identity_similarity:.3f}")
    else:
        typer.echo(
            f"{model.path}: spec.json keeps {outcome.before:.3f} ({described(model.spec.identity_calibration)}); "
            "--replace writes the new one"
        )
