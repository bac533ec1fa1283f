"""Object detectors of other projects, from their ONNX files: what they take, what they give, and what they find.

Tools may import it. It needs no torch.
"""

from engines.detectors.detector import Found, ObjectDetector, open_detector
from engines.detectors.labelling import label_folder
from engines.detectors.layout import DetectorLayout, LayoutName

__all__ = ["DetectorLayout", "Found", "LayoutName", "ObjectDetector", "label_folder", "open_detector"]
