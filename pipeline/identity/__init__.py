"""Who the faces are: views pooled over a track and compared with the gallery.

The runtime, service and cluster rooms may import it.
"""

from pipeline.identity.stage import Identifier, identify

__all__ = [
    "Identifier",
    "identify",
]
