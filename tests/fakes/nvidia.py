"""A machine with NVIDIA GPUs, acted out: the doubles in the places of the libraries."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import engines.backends
from tests.fakes import cuda_double, tensorrt_double
from tests.fakes.tensorrt_double import Machine

OURS = ("cuda", "trt", "trt_build", "trt_log", "trt_slot")  # what has imported the libraries


@contextmanager
def acted_out(machine: Machine) -> Iterator[Machine]:
    """Import our backend anew over the doubles; afterwards everything is as it was."""
    before = dict(sys.modules)
    _forget()
    packages = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    runtime = cuda_double.module(machine.gpu)
    packages[1].runtime = runtime  # type: ignore[attr-defined]
    sys.modules |= {"cuda": packages[0], "cuda.bindings": packages[1], "cuda.bindings.runtime": runtime}
    sys.modules["tensorrt"] = tensorrt_double.module(machine)
    try:
        yield machine
    finally:
        _forget()
        for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "tensorrt"):
            sys.modules.pop(name)
            if name in before:
                sys.modules[name] = before[name]


def _forget() -> None:
    for name in OURS:
        sys.modules.pop(f"engines.backends.{name}", None)
        if hasattr(engines.backends, name):
            delattr(engines.backends, name)
