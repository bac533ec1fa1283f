"""Runs over several hosts: an edge host captures and forwards, another runs the network; or nodes of Ray share streams.

The tools import it, and the service room.
"""
