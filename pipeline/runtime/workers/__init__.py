"""The processes of a run, one module each.

The runtime room alone imports it.
"""
