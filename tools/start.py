"""The installed command ``trunkline``, which says what is missing where only the client was installed."""

import os
import sys
from typing import Final

EXIT_REFUSED: Final = 2

# What brings a module that is not there. The default install is the client's: msgspec and pyzmq.
EXTRA_OF: Final = {
    "run": (
        "av",
        "cv2",
        "jinja2",
        "markdown_it",
        "numpy",
        "onnxruntime",
        "openvino",
        "PIL",
        "rich",
        "scipy",
        "structlog",
        "typer",
    ),
    "cluster": ("ray",),
    "demo": ("skimage",),
    "train": ("faster_coco_eval", "matplotlib", "torch"),
    "heif": ("pillow_heif",),
    "integrations": ("aiomqtt", "httpx", "paho"),
    "import": ("onnx",),
    "metrics": ("prometheus_client", "pynvml"),
    "supervision": ("supervision",),
    "traces": ("opentelemetry",),
    "tracking": ("trackeval",),
    "web": ("anyio", "argon2", "cryptography", "litestar", "tomlkit", "uvicorn", "websockets"),
    "tensorrt": ("cuda", "tensorrt"),
}


def main() -> None:
    """Run the command line; one sentence and exit status 2 where an extra is missing."""
    _open_standard_streams()
    try:
        from tools.main import main as run  # here: it needs the extra "run"

        run()
    except ModuleNotFoundError as error:
        sentence = missing_extra(error)
        if sentence is None:
            raise  # a bug: none of the modules that an extra brings
        sys.exit(_refused(sentence))
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() == "utf-8":
            raise  # a bug: all names can be written
        wrong = ascii(error.object[error.start : error.end])
        sys.exit(_refused(f"this locale, {error.encoding}, has no {wrong}, which a name has: set PYTHONUTF8=1"))


def _open_standard_streams() -> None:
    """Let what was closed before the start lead nowhere: the next file to be opened would get its number.

    That could be a database, into which libraries then write their messages.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(nowhere, True)
            setattr(sys, name, os.fdopen(nowhere, mode))


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Which extra brings the module that could not be imported, and how; None where none does.

    >>> missing_extra(ModuleNotFoundError(name="torch.nn"))
    "the Python package torch is missing, which the extra 'train' brings: pip install 'trunkline[train]'"
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRA_OF.items():
        if module in modules:
            return (
                f"the Python package {module} is missing, which the extra {extra!r} brings: "
                f"pip install 'trunkline[{extra}]'"
            )
    return None


def _refused(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return EXIT_REFUSED
