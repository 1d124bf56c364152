"""Ctrl-C and SIGTERM reach a command that waits for a lock."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

WAITS = """
import signal, sys, threading, time
from xk8s.cli.signals import handle_signals
handle_signals()
def work():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), int(sys.argv[1]))
    time.sleep(600)
threading.Thread(target=work, daemon=True).start()
try:
    threading.Event().wait()
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_another_thread_gets_is_not_slept_through(number: signal.Signals) -> None:
    """The kernel chooses the thread: a worker got one of a dozen Ctrl-Cs on a busy machine."""
    # A shell in the background leaves SIGINT ignored, which is none of this test's business.
    words = [sys.executable, "-c", WAITS, str(int(number))]
    assert subprocess.run(words, timeout=60, check=False).returncode == 130
