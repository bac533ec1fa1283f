"""A run from its configuration to its summary.

The tools import it, and no room of the pipeline.
"""
