"""Where results go: the publishing socket, annotated video.

The runtime, service and cluster rooms may import it.
"""
