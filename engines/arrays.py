"""Array types, once for all: the element type is checked, the shape is said beside each use."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]  # any shape, of whatever an engine gives
Float = npt.NDArray[np.float32]  # any shape
Double = npt.NDArray[np.float64]  # any shape
Flags = npt.NDArray[np.bool_]  # any shape
Rows = npt.NDArray[np.int64]  # row numbers, counts and ids
Ints = npt.NDArray[np.int64]  # any shape
Labels = npt.NDArray[np.int32]  # (N,) class numbers
Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB unless said otherwise
Pictures = npt.NDArray[np.uint8]  # (N, H, W, 3) RGB
Plane = npt.NDArray[np.uint8]  # (H, W) or (H, W, C): one plane of a decoded picture
Luma = npt.NDArray[np.uint8]  # (H, W) brightness
Crop = npt.NDArray[np.uint8]  # (112, 112, 3) RGB, an aligned face
Mask = npt.NDArray[np.uint8]  # (H, W) coverage
Bytes = npt.NDArray[np.uint8]  # (N,) memory
Hashes = npt.NDArray[np.uint64]  # (N,) of pictures
ClassIds = npt.NDArray[np.integer]  # (N,) of any width
