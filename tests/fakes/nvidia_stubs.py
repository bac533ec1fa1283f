"""Type stubs of NVIDIA's real TensorRT bindings, the newest 10 and the newest 11.

The bindings' packages hold no stubs, but the module itself tells its classes, methods and signatures. It can be asked
without TensorRT and without a GPU: it links to three libraries, of which it needs a few functions by name. Empty ones
are compiled here. Whatever is not to be had (no network, no compiler, not Linux on x86-64) is said in a sentence, and
what would use the stubs does without.

    python tests/fakes/nvidia_stubs.py build/nvidia

leaves, for each VERSION of 10 and 11, ``VERSION/bindings`` (NVIDIA's package), ``VERSION/libraries`` (the empty ones)
and ``VERSION/stubs``; and ``cuda``, the bindings of the CUDA runtime, which run as they are and find no driver.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

BINDINGS = {"10": "tensorrt_cu13_bindings>=10,<11", "11": "tensorrt_cu13_bindings>=11,<12"}
CUDA = ["cuda-bindings>=13,<14", "cuda-pathfinder"]
STUBGEN = "pybind11-stubgen==2.5.5"
# What the bindings take from TensorRT's libraries; all make an object and may return none.
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
TIMEOUT_S = 300


def make_all(folder: Path) -> None:
    """Make all of it that is not there."""
    if not (folder / "cuda").is_dir():
        _install(CUDA, folder / "cuda")
    if not (folder / "stubgen").is_dir():
        _install([STUBGEN], folder / "stubgen", dependencies=True)
    for version, package in BINDINGS.items():
        if not (folder / version / "stubs").is_dir():
            _make(folder / version, package, version, folder / "stubgen")


def _make(folder: Path, package: str, version: str, stubgen: Path) -> None:
    _install([package], folder / "bindings")
    libraries = folder / "libraries"
    libraries.mkdir(parents=True, exist_ok=True)
    source = libraries / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for library in LIBRARIES:
        _run([shutil.which("cc") or "cc", "-shared", "-fPIC", "-o", libraries / f"{library}.so.{version}", source])
    made = folder / "made"
    paths = {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": os.pathsep.join(map(str, (folder / "bindings", stubgen)))}
    options = ["tensorrt_bindings.tensorrt", "-o", made, "--ignore-all-errors"]
    _run([sys.executable, "-m", "pybind11_stubgen", *options], {**os.environ, **paths})
    text = repaired((made / "tensorrt_bindings" / "tensorrt.pyi").read_text())
    stub = folder / "part" / "tensorrt" / "__init__.pyi"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.write_text(f"{text}\n__version__: str\n")
    (folder / "part").rename(folder / "stubs")


def repaired(text: str) -> str:
    """A stub that a type checker reads.

    The module has a type called ``bool``; some signatures have defaults in the wrong places; integers are written as
    anything that can be made one, which no override may take; and buffers are not told.
    """
    text = re.sub(r"(?<=[ \[])bool\b(?!: )", "builtins.bool", text).replace("typing.SupportsInt", "int")
    text = re.sub(r"(->|:) \.\.\.(?=[,:)])", r"\1 typing.Any", text)
    buffer = "class IHostMemory:\n    def __buffer__(self, flags: int, /) -> memoryview: ...\n"
    text = text.replace("class IHostMemory:\n", buffer).replace("import numpy\n", "import builtins\nimport numpy\n")
    lines = text.split("\n")
    while True:
        try:
            ast.parse("\n".join(lines))
            return "\n".join(lines)
        except SyntaxError as error:
            at = (error.lineno or 1) - 1
            while not lines[at].lstrip().startswith("def "):
                at -= 1
            found = re.match(r"(\s*def \w+)", lines[at])
            assert found is not None
            lines[at] = f"{found[1]}(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:"


def _install(packages: list[str], target: Path, *, dependencies: bool = False) -> None:
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--target", part]
    _run([sys.executable, "-m", "pip", "install", *options, *([] if dependencies else ["--no-deps"]), *packages])
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _run(command: list[str | Path], environment: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S, env=environment)
    except subprocess.CalledProcessError as error:
        said = (error.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
        raise SystemExit(f"notice: NVIDIA's interfaces are not checked: {Path(command[0]).name}: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"notice: NVIDIA's interfaces are not checked: {error}") from error


if __name__ == "__main__":
    make_all(Path(sys.argv[1]).resolve())
