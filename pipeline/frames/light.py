"""Whether a camera sees by day or by night."""

from typing import Literal

Light = Literal["day", "night"]
