"""OpenVINO without its telemetry.

Its package sends an event to a web analytics service whenever it is imported, from a process of its own that it starts
in each of ours, and keeps a number for the user in ``~/intel``. Where ``openvino_telemetry`` cannot be imported it does
without. Import OpenVINO from here alone.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it raises ImportError

import openvino as openvino  # noqa: E402
