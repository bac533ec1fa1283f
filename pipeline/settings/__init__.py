"""The configuration of a run: its schema, how it is loaded and checked, and addresses as they may be shown.

Every room but frames may import it. It exports nothing, so that a subscriber redacts addresses without NumPy.
"""
