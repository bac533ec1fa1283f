"""The page and its API: a server of its own process that subscribes to a run as anybody may.

The command line imports it, and no room of the pipeline. Only what lies here knows the web framework.
"""
