"""For the process that forks those of a run: like all of those, it ignores SIGHUP once it has imported this.

It also loads what they would load each for itself.
"""

import signal

from pipeline.tracking.association import solver

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal sends it to everybody, and the first process decides
solver()
