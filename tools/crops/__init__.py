"""What crops of large pictures find beside the whole, and what they cost: ``trunkline evaluate crops``."""
