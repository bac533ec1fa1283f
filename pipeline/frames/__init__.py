"""What moves between the stages: pictures, frames, batches, results, and the counters of frames.

Every other room of the pipeline may import it; it imports no other room. It exports nothing, so that a subscriber
gets its clock without NumPy.
"""
