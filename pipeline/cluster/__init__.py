"""Runs over several hosts: an edge host captures and forwards, another runs the network.

The tools import it, and the service room.
"""
