"""Which forms of an entry hold on this processor, and which of them is the fastest: found out once, and remembered.

An int8 file that is right on one processor may be wrong on another whose sums overflow. So the first time that an
engine is opened with ``int8`` or ``auto``, every form is run on pictures that ship with the model, compared with f32
and timed.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog

from engines.arrays import Pictures
from engines.backends.base import Engine
from engines.drift import drift
from engines.errors import EngineError, ModelError
from engines.files import write_whole
from engines.hardware import cpu
from engines.pictures import read_rgb, resize
from engines.spec import Backend, CheckPictures, EntryName, EntrySpec, Model, Precision, TaskName
from engines.undecodable import UNDECODABLE

log = structlog.get_logger()

FORMAT: Final = 1
FOLDER: Final = ".checked"  # beside the model's files
# Where sums overflowed, drifts were 4 to 300 times those of exact arithmetic; where none did, within a tenth of them.
ALLOWED_TIMES: Final = 2.0
ALLOWED_BESIDE: Final = 0.01  # bf16's and f32's own rounding, where the int8 file loses next to nothing
GAIN: Final = 0.9  # of the time of a more exact form: what is no faster than that is not worth its rounding
TIMED_S: Final = 0.4  # for each form
MIN_ROUNDS: Final = 3


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """All that a finding depends on."""

    processor: str
    instructions: tuple[str, ...]
    cores: int
    files: tuple[str, ...]  # SHA-256 of the f32 file, the int8 file and the pictures
    backend: str
    version: str  # of its library

    @property
    def name(self) -> str:
        """Of its file: 24 hex digits and a suffix."""
        return f"{hashlib.sha256(msgspec.json.encode((FORMAT, self))).hexdigest()[:24]}.json"


class FormFinding(msgspec.Struct, frozen=True, kw_only=True):
    """How a form did."""

    precision: Precision
    drift: dict[TaskName, float]  # from f32
    holds: bool
    picture_ms: float


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """How all forms did on this processor, the most exact first, and which one ``auto`` takes."""

    key: Key
    allowed: dict[TaskName, float]
    forms: tuple[FormFinding, ...]
    taken: Precision

    def of(self, precision: Precision) -> FormFinding | None:
        """What was found of a form, if it was looked at."""
        return next((each for each in self.forms if each.precision == precision), None)

    @property
    def reason(self) -> str:
        """In one line, why ``auto`` takes what it takes."""
        parts = []
        for each in self.forms:
            failed = "" if each.holds else f" but does not hold here: {self.gaps(each)}"
            parts.append(f"{each.precision} {each.picture_ms:.2f} ms a picture{failed}")
        return f"{self.taken} is the fastest precision that holds on this processor ({'; '.join(parts)})"

    def gaps(self, form: FormFinding) -> str:
        """By how much a form misses f32, task by task, where that is too much."""
        return ", ".join(
            f"{task} drift {value:.3f} from f32, allowed {self.allowed[task]:.3f}"
            for task, value in form.drift.items()
            if not value <= self.allowed[task]
        )


def find(model: Model, entry: EntryName, backend: Backend, opened: Callable[[Precision], Engine]) -> Finding | None:
    """What is remembered of an entry on this processor, else what is found now, which is remembered.

    Args:
        model: from :func:`engines.spec.load_model`.
        entry: of the model.
        backend: one for CPUs.
        opened: opens the entry with a precision.

    Returns:
        None where the model has no int8 file of the entry, or no pictures to check it on.

    Raises:
        ModelError: a file cannot be loaded.
    """
    check = _check_of(model, entry)
    if check is None:
        return None
    key = _key(model, entry, backend, check)
    for folder in _folders(model):
        if (known := _read(folder / key.name, key)) is not None:
            return known
    log.info("comparing the precisions on this processor, once", entry=entry, backend=backend)
    batch = read_pictures(model.path / check.file, check, model.spec.entry(entry))
    allowed = {task: ALLOWED_TIMES * value + ALLOWED_BESIDE for task, value in check.drift.items()}
    with ExitStack() as stack:
        engines = {each.precision: each for each in _opened(opened, stack)}
        forms = compared(entry, model.spec.network.tasks, engines, batch, allowed)
    found = Finding(key=key, allowed=allowed, forms=forms, taken=fastest(forms))
    for each in forms:
        if not each.holds:
            log.warning(
                f"{each.precision} does not hold on this processor and is not used: {found.gaps(each)}",
                model=str(model.path),
                entry=entry,
                backend=backend,
            )
    _remember(_folders(model), found)
    return found


def require(finding: Finding, precision: Precision, model: Model, entry: EntryName) -> None:
    """Raise EngineError unless a form holds on this processor."""
    form = finding.of(precision)
    if form is not None and not form.holds:
        raise EngineError(
            f"model {model.path}: {precision} of the {entry} entry is refused, as it does not hold on this processor "
            f"({finding.key.processor}) in {finding.key.backend}: {finding.gaps(form)}; use f32 or auto, or make the "
            f"file anew with: trunkline compile {model.path} --precision int8 --data DATA"
        )


def compared(
    entry: EntryName,
    tasks: Sequence[TaskName],
    engines: Mapping[str, Engine],
    batch: Pictures,
    allowed: Mapping[TaskName, float],
) -> tuple[FormFinding, ...]:
    """How engines of several precisions do on pictures (N, H, W, 3); the first one is the reference."""
    outputs = {precision: engine.infer(batch) for precision, engine in engines.items()}
    reference = next(iter(outputs.values()))
    best = dict.fromkeys(engines, math.inf)
    began, rounds = time.perf_counter(), 0
    while rounds < MIN_ROUNDS or time.perf_counter() - began < TIMED_S * len(engines):
        for precision, engine in engines.items():  # in turns: what else the machine does then meets all of them
            start = time.perf_counter()
            engine.infer(batch)
            best[precision] = min(best[precision], time.perf_counter() - start)
        rounds += 1
    found = []
    for precision, engine in engines.items():
        drifts = drift(entry, tasks, reference, outputs[precision])
        holds = all(value <= allowed[task] for task, value in drifts.items())
        milliseconds = best[precision] * 1000 / len(batch)
        form: Precision = engine.precision  # type: ignore[assignment]  # engines name their precision in these words
        found.append(FormFinding(precision=form, drift=drifts, holds=holds, picture_ms=milliseconds))
    return tuple(found)


def fastest(forms: Sequence[FormFinding]) -> Precision:
    """The fastest form that holds; of two that are about as fast the more exact one, which stands first."""
    taken = forms[0]
    for each in forms[1:]:
        if each.holds and each.picture_ms < GAIN * taken.picture_ms:
            taken = each
    return taken.precision


def read_pictures(file: Path, check: CheckPictures, spec: EntrySpec) -> Pictures:
    """The pictures of a self-check as an entry takes them: (count, height, width, 3).

    Raises:
        ModelError: the file does not hold as many pictures as the spec says.
    """
    sheet = read_rgb(file)
    if sheet.shape[0] != check.count * sheet.shape[1]:
        raise ModelError(f"{file}: must hold {check.count} squares, but is {sheet.shape[1]}x{sheet.shape[0]} pixels")
    return np.stack([resize(each, (spec.width, spec.height)) for each in np.split(sheet, check.count)])


def _opened(opened: Callable[[Precision], Engine], stack: ExitStack) -> Iterator[Engine]:
    """An engine of each precision there is, f32 first; ``auto`` is the backend's own, bf16 where that is fast."""
    f32 = stack.enter_context(opened("f32"))
    yield f32
    own = stack.enter_context(opened("auto"))
    if own.precision != f32.precision:
        yield own
    yield stack.enter_context(opened("int8"))


def _check_of(model: Model, entry: EntryName) -> CheckPictures | None:
    int8 = model.spec.int8
    file = int8.files.get(entry) if int8 else None
    return file.check if file else None


def _key(model: Model, entry: EntryName, backend: Backend, check: CheckPictures) -> Key:
    assert model.spec.int8 is not None  # it has a check
    processor = cpu()
    return Key(
        processor=processor.name,
        instructions=processor.instructions,
        cores=processor.usable_cores,
        files=(model.spec.entry(entry).sha256, model.spec.int8.files[entry].sha256, check.sha256),
        backend=backend,
        version=version(backend),
    )


def _folders(model: Model) -> tuple[Path, Path]:
    """Where findings are: beside the model, else in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return model.path / FOLDER, cache / "trunkline" / "checked"


def _read(file: Path, key: Key) -> Finding | None:
    try:
        known = msgspec.json.decode(file.read_bytes(), type=Finding)
    except (OSError, *UNDECODABLE):  # not there, or damaged: it is found out again
        return None
    return known if known.key == key else None


def _remember(folders: Sequence[Path], found: Finding) -> None:
    content = msgspec.json.format(msgspec.json.encode(found), indent=2)
    failed: OSError | None = None
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / found.key.name, content + b"\n")
            return
        except OSError as error:
            failed = error
    log.warning(f"what holds on this processor cannot be remembered, and is found out at each start: {failed}")
