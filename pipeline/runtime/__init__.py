"""How the stages of a run are joined, as threads or as processes, and kept going.

The service and cluster rooms may import it. It exports nothing.
"""
