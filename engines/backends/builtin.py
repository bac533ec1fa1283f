"""The backends that Trunkline brings, as the entry points of ``pyproject.toml`` name them."""

import importlib
from typing import Final

from engines import hardware
from engines.backends.base import BackendStatus, Engine, EngineOptions, library_status, package_version
from engines.spec import EntryName, Model

GPU_PACKAGES: Final = ("tensorrt", "cuda.bindings.runtime", "onnx")  # what the TensorRT backend imports


class TensorRtBackend:
    """TensorRT on an NVIDIA GPU."""

    def status(self) -> BackendStatus:
        """Return whether there is a GPU, and TensorRT for it."""
        gpus = hardware.nvidia_gpus()
        if not gpus:
            missing = "this machine has no NVIDIA GPU, or no driver that runs it: nvidia-smi lists none"
            return BackendStatus("tensorrt", False, package_version("tensorrt"), missing)
        role = f"the fastest on the {gpus[0].name}"
        for package in GPU_PACKAGES:
            status = library_status("tensorrt", package, "pip install 'trunkline[tensorrt]'", role)
            if not status.available:
                return status
        version: str = importlib.import_module("tensorrt").__version__
        return BackendStatus("tensorrt", True, version, role)

    def open(self, model: Model, entry: EntryName, options: EngineOptions) -> Engine:
        """Load the engine from the cache, or build it."""
        from engines.backends.trt import TensorRtEngine

        return TensorRtEngine(model, entry, options.precision, gpu=options.gpu or 0)


class TorchBackend:
    """PyTorch on CUDA where there is one, else on the CPU."""

    def status(self) -> BackendStatus:
        """Return whether PyTorch is installed."""
        install = "pip install 'trunkline[train]'"
        return library_status("torch", "torch", install, "the reference, for CPUs and CUDA")

    def open(self, model: Model, entry: EntryName, options: EngineOptions) -> Engine:
        """Build the network around its weights."""
        from engines.backends.eager import open_torch

        return open_torch(model, entry, options.precision, gpu=options.gpu, torch_compile=options.torch_compile)


class OpenVinoBackend:
    """OpenVINO on the CPU."""

    def status(self) -> BackendStatus:
        """Return whether OpenVINO is installed."""
        how, role = "pip install openvino", "the fastest engine for CPUs"
        return library_status("openvino", "openvino", how, role, "engines.backends.untold_openvino")

    def open(self, model: Model, entry: EntryName, options: EngineOptions) -> Engine:
        """Compile the entry's file."""
        from engines.backends.ov import OpenVinoEngine

        return OpenVinoEngine(model, entry, options.precision)


class OnnxRuntimeBackend:
    """ONNX Runtime on the CPU."""

    def status(self) -> BackendStatus:
        """Return whether ONNX Runtime is installed."""
        return library_status("onnxruntime", "onnxruntime", "pip install onnxruntime", "the portable engine for CPUs")

    def open(self, model: Model, entry: EntryName, options: EngineOptions) -> Engine:
        """Load the entry's file."""
        from engines.backends.ort import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model, entry, options.precision)


tensorrt: Final = TensorRtBackend()
torch: Final = TorchBackend()
openvino: Final = OpenVinoBackend()
onnxruntime: Final = OnnxRuntimeBackend()
