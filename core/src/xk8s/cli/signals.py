"""Signals: what ends a command, and that none of them is slept through."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time

_NUDGES = 5
_BETWEEN = 0.1


def handle_signals() -> None:
    """Make SIGTERM and SIGHUP clean up as Ctrl-C does, at once and whatever the command waits for.

    The kernel may deliver a signal to any thread. Python acts on it in the main thread, which
    does not wake up if it waits for a lock: for a future, an event, another thread. So a Ctrl-C was
    lost now and then while several artifacts were made.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    if threading.current_thread() is threading.main_thread():
        _wake_for_signals()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@functools.cache
def _wake_for_signals() -> None:
    """Start a thread, once in a process, that wakes the main one for each signal, with a signal
    that does nothing else.
    """
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(read, True)
    signal.signal(signal.SIGURG, lambda _number, _frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    main = threading.get_ident()

    def watch() -> None:
        while numbers := os.read(read, 64):
            if not {*numbers} - {signal.SIGURG}:
                continue
            # More than once: it may come just before the main thread falls asleep.
            for _ in range(_NUDGES):
                signal.pthread_kill(main, signal.SIGURG)
                time.sleep(_BETWEEN)

    threading.Thread(target=watch, name="signals", daemon=True).start()
