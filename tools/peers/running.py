"""A program that measures itself in a process of its own, and says so in JSON."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
WIDE: Final = "500"  # columns of the terminal that programs are told they have: their errors stay on one line


class Failed(Exception):
    """Why something could not be measured, in one sentence."""


def said(command: Sequence[str], timeout_s: float, variables: Mapping[str, str] | None = None) -> str:
    """What a command prints, run at the top of the checkout.

    Raises:
        Failed: it ends with another status than 0, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**os.environ, "COLUMNS": WIDE, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"took longer than {timeout_s:g} s") from None
    if done.returncode:
        raise Failed(last_line(done.stderr))
    return done.stdout


def last_json(text: str) -> dict[str, Any]:
    """The object on the last line; libraries may have printed before.

    Raises:
        Failed: there is none.
    """
    lines = text.splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed("printed no result")
    return found


def last_line(text: str) -> str:
    """The last line that says something, without what command-line programs put around errors."""
    lines = [line.strip(" │╭╮╰╯─").removeprefix("error: ") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "ended without a word")
