"""For the process that forks those of a run: like all of those, it ignores SIGHUP once it has imported this."""

import signal

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal sends it to everybody, and the first process decides
