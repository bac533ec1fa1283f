"""Day or night; without NumPy, since subscribers load it."""

from typing import Literal

Light = Literal["day", "night"]
