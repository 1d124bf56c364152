"""For all tests of the workspace."""

from __future__ import annotations

import signal

# A shell that starts us in the background (`… &`, nohup, some CI) leaves these ignored, and so
# would every program that a test starts: a test of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
