"""For all tests of the workspace."""

from __future__ import annotations

import signal

import hypothesis

pytest_plugins = [
    "tests.suite.environment",
    "tests.suite.not_run",
    "tests.suite.time_limits",
    "tests.suite.order",
]

# A shell that starts us in the background (`… &`, nohup, some CI) leaves these ignored, and so
# would every program that a test starts: a test of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile("xk8s", deadline=None)
hypothesis.settings.load_profile("xk8s")
# The same examples in each run of .ci/run: a change is judged by what it changed. Everybody else's
# runs look for new ones.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
