"""A whole Trunkline under faults: what breaks it, by a seed, and what is asked of it then."""
