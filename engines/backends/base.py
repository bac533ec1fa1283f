"""The contracts of engines and of the backends that open them, and how backends are found.

A backend is an object with the two methods of :class:`BackendFactory`, published as an entry point of the group
``trunkline.backends``; the entry point's name is the backend's. Any package may bring one (docs/extending.md).
"""

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Final, Protocol, Self

from engines.arrays import Array, Pictures
from engines.errors import BackendUnavailable, one_line
from engines.spec import Backend, EntryName, EntrySpec, Model, Precision

GROUP: Final = "trunkline.backends"


class Running(Protocol):
    """A batch under way in an engine."""

    def outputs(self) -> dict[str, Array]:
        """Wait for the batch and return the entry's outputs, batch first; they stay as they are. To be called once.

        Raises:
            EngineError: the run failed; the engine can be used as before.
        """
        ...


class Engine(Protocol):
    """A compiled entry that runs.

    One thread at a time may start batches; each may be waited for in a thread of its own. A batch that is dropped
    instead of waited for is done before its memory is given back.
    """

    spec: EntrySpec
    backend: str
    precision: str
    device: str
    depth: int  # batches that are worth having under way at once; more gain nothing

    def start(self, batch: Pictures) -> Running:
        """Begin to run uint8 RGB pictures (N, H, W, 3).

        A contiguous batch is read where it lies: it must not change until its outputs have been returned.

        Raises:
            EngineError: the batch is not good, or the engine is closed.
        """
        ...

    def infer(self, batch: Pictures) -> dict[str, Array]:
        """Run uint8 RGB pictures (N, H, W, 3) and return the entry's outputs: :meth:`start` and wait."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; may be called twice. Batches under way are finished."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class StartedEngine(ABC):
    """What follows from :meth:`start` and :meth:`close` in every engine of ours."""

    @abstractmethod
    def start(self, batch: Pictures) -> Running:
        """Begin to run uint8 RGB pictures (N, H, W, 3), as :meth:`Engine.start` says."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the engine holds; may be called twice."""

    def infer(self, batch: Pictures) -> dict[str, Array]:
        """Run uint8 RGB pictures (N, H, W, 3); EngineError where the batch or the run is not good."""
        return self.start(batch).outputs()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether a backend can run here."""

    name: Backend
    available: bool
    version: str | None  # of its library; None where that is not installed
    detail: str  # what it runs on, or what is missing and what installs it


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is to run."""

    precision: Precision = "auto"  # of the arithmetic; auto: what the backend does best
    gpu: int | None = None  # index of the GPU that it must run on; None: the backend's first, where it runs on one
    torch_compile: bool = False  # backend torch alone: make its kernels with torch.compile


class BackendFactory(Protocol):
    """Opens engines with one SDK, which it imports only when one of these is called."""

    def status(self) -> BackendStatus:
        """Return whether it can run here, and what is missing if not; raise nothing."""
        ...

    def open(self, model: Model, entry: EntryName, options: EngineOptions) -> Engine:
        """Load an entry of a model.

        Raises:
            BackendUnavailable: it has no such precision, or there is no such GPU.
            ModelError: the entry's file is not there, cannot be loaded, or takes something else than pictures.
        """
        ...


def backend_names() -> tuple[Backend, ...]:
    """Return the names of the installed backends, sorted."""
    return tuple(sorted({point.name for point in _points()}))


def find_backend(name: Backend) -> BackendFactory:
    """Return the installed backend of a name.

    Raises:
        BackendUnavailable: no installed package brings it, two do, or it cannot be imported.
    """
    found = [point for point in _points() if point.name == name]
    if not found:
        names = ", ".join(map(repr, backend_names())) or "none: install Trunkline anew, with pip install"
        raise BackendUnavailable(f"backend is {name!r}, but must be one that is installed: {names}")
    if len(found) > 1:
        values = " and ".join(sorted(point.value for point in found))
        raise BackendUnavailable(f"backend {name!r} is brought twice, by {values}: uninstall one of the packages")
    try:
        factory: BackendFactory = found[0].load()
    except (ImportError, OSError, AttributeError) as error:  # OSError: a shared library that it needs
        raise BackendUnavailable(
            f"backend {name!r} cannot run: {found[0].value} cannot be imported ({one_line(error)})"
        ) from error
    return factory


def library_status(name: Backend, package: str, install: str, role: str, module: str | None = None) -> BackendStatus:
    """Return whether the package of an SDK can be imported.

    Args:
        name: of the backend.
        package: to be imported.
        install: command that installs it.
        role: what the backend is for, where it can run.
        module: of ours, that imports the package as it is to be imported; None: there is none.
    """
    try:
        for each in (module, package):
            if each is not None:
                importlib.import_module(each)
    except (ImportError, OSError) as error:  # OSError: a shared library that the package needs
        missing = f"the package {package} cannot be imported ({error}); install it with: {install}"
        return BackendStatus(name, False, package_version(package), missing)
    return BackendStatus(name, True, package_version(package), role)


def package_version(package: str) -> str | None:
    """Return the version of an installed package, None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _points() -> set[EntryPoint]:
    # One that is found twice on the path, installed and in a checkout, is the same.
    return set(entry_points(group=GROUP))
