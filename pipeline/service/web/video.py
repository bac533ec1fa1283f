"""Live video of a stream."""

from typing import Literal

Kind = Literal["mse", "mjpeg", "none"]


def video_of(stream: str) -> tuple[Kind, str | None]:
    """Return how a stream's video can be had, and its codec as browsers name it; ``none`` where it cannot."""
    return "none", None
