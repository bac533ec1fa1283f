"""The doubles beside what they stand for: NVIDIA's own bindings, as far as those can be had without a GPU.

``python tests/fakes/nvidia_stubs.py build/nvidia`` fetches them; ``make lint`` does so.
"""

import ast
import inspect
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import cuda_double, tensorrt_double
from tests.fakes.cuda_double import Gpu
from tests.fakes.tensorrt_double import Machine

CHECKOUT = Path(__file__).resolve().parents[2]
NVIDIA = CHECKOUT / "build" / "nvidia"
WITHOUT = "NVIDIA's bindings are not here; fetch them with: python tests/fakes/nvidia_stubs.py build/nvidia"
ENUMS = ("DataType", "TensorIOMode", "MemoryPoolType", "NetworkDefinitionCreationFlag")  # flags differ by version
WE_MAKE = ("ILogger", "IProgressMonitor", "Builder", "Runtime", "OnnxParser")  # TensorRT alone makes all others


@pytest.fixture(params=["10", "11"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stub(version: str) -> str:
    file = NVIDIA / version / "stubs" / "tensorrt" / "__init__.pyi"
    if not file.is_file():
        pytest.skip(WITHOUT)
    return file.read_text()


def classes(stub: str) -> dict[str, dict[str, list[ast.AST]]]:
    """The members of every class by name, with those of its bases; more than one where a method is overloaded."""
    own: dict[str, dict[str, list[ast.AST]]] = {}
    for node in ast.parse(stub).body:
        if not isinstance(node, ast.ClassDef):
            continue
        members: dict[str, list[ast.AST]] = {}
        for base in node.bases:
            members |= own.get(ast.unparse(base), {})
        for each in node.body:
            if isinstance(each, ast.FunctionDef | ast.ClassDef):
                members.setdefault(each.name, []).append(each)
            elif isinstance(each, ast.AnnAssign):
                members.setdefault(ast.unparse(each.target), []).append(each)
        own[node.name] = members
    return own


@pytest.fixture
def double(version: str) -> types.ModuleType:
    return tensorrt_double.module(Machine(Gpu(), f"{version}.4.0.106"))


def test_every_name_of_the_double_is_tensorrts(stub: str, double: types.ModuleType) -> None:
    real = classes(stub)
    for name, each in vars(double).items():
        if name.startswith("_"):
            continue
        assert name in real, name
        public = {member for member in vars(each) if not member.startswith("_")}
        if name in ("Dims", "IHostMemory"):  # a tuple and bytes here
            public -= set(dir(tuple)) | set(dir(bytes))
        assert public <= real[name].keys(), (name, public - real[name].keys())


def test_every_method_of_the_double_takes_what_tensorrts_takes(stub: str, double: types.ModuleType) -> None:
    real = classes(stub)
    for name, each in vars(double).items():
        for method, function in vars(each).items() if inspect.isclass(each) else ():
            makes = method == "__init__" and name in WE_MAKE
            if not isinstance(function, types.FunctionType) or (method.startswith("_") and not makes):
                continue
            taken = list(inspect.signature(function).parameters)[1:]
            forms = [
                [argument.arg for argument in form.args.args][1:]
                for form in real[name][method]
                if isinstance(form, ast.FunctionDef)
            ]
            assert taken in forms, (name, method, taken, forms)


def test_the_numbers_of_the_enumerations_are_tensorrts(stub: str, double: types.ModuleType) -> None:
    for name in ENUMS:
        for member in getattr(double, name):
            assert f"<{name}.{member.name}: {member.value}>" in stub, (name, member)


@pytest.fixture
def runtime() -> types.ModuleType:
    """The CUDA runtime's real bindings."""
    if not (NVIDIA / "cuda").is_dir():
        pytest.skip(WITHOUT)
    sys.path.insert(0, str(NVIDIA / "cuda"))
    before = set(sys.modules)
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        pytest.skip(f"cuda-bindings does not load here: {error}")
    finally:
        sys.path.remove(str(NVIDIA / "cuda"))
        for name in set(sys.modules) - before:
            if name.split(".")[0] == "cuda":
                del sys.modules[name]
    return runtime


def test_every_name_of_the_cuda_double_is_cudas(runtime: types.ModuleType) -> None:
    for name, each in vars(cuda_double.module(Gpu())).items():
        if name.startswith("__"):
            continue
        real = getattr(runtime, name)
        if isinstance(each, type):
            for member in each:  # type: ignore[attr-defined]
                assert int(getattr(real, member.name)) == member.value, member
        elif isinstance(each, int):
            assert int(real) == each, name


def test_every_function_of_the_cuda_double_takes_what_cudas_takes(runtime: types.ModuleType) -> None:
    doubles: dict[str, Any] = {}
    for part in (cuda_double._device, cuda_double._memory, cuda_double._streams, cuda_double._graphs):
        doubles |= part(Gpu())
    for name, function in doubles.items():
        head = (getattr(runtime, name).__doc__ or "").strip().splitlines()[0]
        inside = head[head.index("(") + 1 : head.index(")")]
        count = len([argument for argument in inside.split(",") if argument.strip()])
        assert len(inspect.signature(function).parameters) == count, head


def test_without_a_driver_cuda_says_what_the_double_says(runtime: types.ModuleType) -> None:
    code, _ = runtime.cudaGetDeviceCount()
    if int(code) == 0:
        pytest.skip("this machine has a GPU")
    acted = cuda_double.module(Gpu(driver=False))
    if int(code) == 35:
        assert acted.cudaGetDeviceCount() == (35, None)
        assert runtime.cudaGetErrorString(code)[1] == acted.cudaGetErrorString(code)[1]


SUBCLASSES = """
import sys
import tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
from rich.progress import Progress
from engines.backends.trt_build import Monitor, new_builder
from engines.backends.trt_log import Log
from engines.errors import BackendUnavailable
trt = tensorrt_bindings
log = Log()
log.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure\\n with error: 35")
try:
    new_builder(log)
except BackendUnavailable as error:
    print(error)
monitor = Monitor(Progress(disable=True))
monitor.phase_start("a", None, 2)
print(monitor.step_complete("a", 0))
monitor.phase_finish("a")
print([list(trt.Dims((1, 2, 3, 4))), trt.Dims((-1, 3, 4))[1:]])
print(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
"""


def test_our_classes_stand_on_the_real_bindings(version: str) -> None:
    """With empty libraries behind them, which make nothing, as TensorRT does without a GPU."""
    folder = NVIDIA / version
    if not (folder / "stubs").is_dir():
        pytest.skip(WITHOUT)
    paths = {
        "LD_LIBRARY_PATH": str(folder / "libraries"),
        "PYTHONPATH": os.pathsep.join(map(str, (folder / "bindings", NVIDIA / "cuda", CHECKOUT))),
    }
    done = subprocess.run(
        [sys.executable, "-c", SUBCLASSES], env={**os.environ, **paths}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "TensorRT cannot use a GPU here: CUDA initialization failure with error: 35",
        "True",
        "[[1, 2, 3, 4], (3, 4)]",
        {"10": "2", "11": "1"}[version],
    ]
