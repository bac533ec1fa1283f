"""Running ``trunkline`` in this process."""

from functools import partial

from typer.testing import CliRunner, Result

from tools.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    """What a command that ends well prints."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    """The one sentence that a refused command says, on stderr alone."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (sentence,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert sentence.startswith("error: ")
    return sentence


def of(*first: str) -> tuple[partial[Result], partial[str], partial[str]]:
    """:func:`run`, :func:`done` and :func:`refused` of one verb."""
    return partial(run, *first), partial(done, *first), partial(refused, *first)
