"""Fixtures around the network that sees colours."""

from tests.engines.evaluation.conftest import data, model, runner

__all__ = ["data", "model", "runner"]
