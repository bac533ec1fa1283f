"""What tasks share that say one of their labels of each face: the parts of any whose own folder has none of that name.

``of(task)`` of each module gives what such a module in the task's folder would have.
"""
