"""How large a machine some streams need: costs of a frame, and a queueing model, for ``trunkline plan``."""
