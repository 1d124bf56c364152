"""Calls into plugins: whatever happens, the error names the distribution that has to be fixed.

A plugin runs in this process. So a call that takes too long can be ended only where Python itself
handles signals (its own loops, sleeping, waiting for a socket or a program, regular expressions),
in the main thread. A call that hangs in machine code cannot; then the stacks of all threads are
written to stderr, to show which plugin it is.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import TypeVar

from xk8s.errors import PluginError, Xk8sError
from xk8s.names.advice import about_mistake, source_tree
from xk8s.names.discovery import Offer

T = TypeVar("T")

GRACE = 5.0
"""Seconds after the limit until stacks are written."""


class _Over(BaseException):
    """The time is over. Not an Exception: plugins must not swallow it by habit."""


def guarded(function: Callable[[], T], *, offer: Offer, what: str, doing: str, limit: float) -> T:
    """Call a plugin. ``what``: "overlay 'x'"; ``doing``: the hook's name, empty for an import;
    ``limit``: seconds it may take, 0 for no limit.

    `PluginError` for anything that it raises, except errors of xk8s (whose origin is added) and
    Ctrl-C.
    """
    try:
        with _limited(limit):
            return function()
    except _Over as over:
        frames = _frames(over.__traceback__)
        raise PluginError(
            f"{what}: {doing or 'its import'} did not finish within {limit:g} s",
            where=f"{offer.where}{_place(frames, offer)}",
            hint=f"{about_mistake(offer, doing)}; if it only needs longer: "
            "-s plugins.timeout=SECONDS",
            log="".join(traceback.StackSummary.extract(frames).format()),
        ) from None
    except Xk8sError as error:
        error.where = error.where or f"{what}, {offer.where}"
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit as well: a plugin does not end xk8s
        kind = f"raised {type(error).__name__}" if doing else "cannot be imported"
        text = str(error) if doing else f"{type(error).__name__}: {error}"
        raise PluginError(
            f"{what}: {doing} {kind}: {text}" if doing else f"{what} {kind}: {text}",
            where=f"{offer.where}{_place(_frames(error.__traceback__), offer)}",
            hint=about_mistake(offer, doing)
            if doing or source_tree(offer.distribution)
            else f"reinstall or remove {offer.distribution}",
        ) from error


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_Over` in the current call if it takes too long."""
    main = threading.current_thread() is threading.main_thread()
    # A timer of somebody else, or our own for a surrounding call, is not ours to stop.
    if seconds <= 0 or not main or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    waiting = True

    def _over(_number: int, _frame: FrameType | None) -> None:
        if waiting:
            raise _Over

    before = signal.signal(signal.SIGALRM, _over)
    # Again each second: one may be raised where it is lost (in a __del__, in an `except:`).
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    if sys.__stderr__ is not None:
        with contextlib.suppress(OSError, ValueError):  # it may not be a file, or be closed
            faulthandler.dump_traceback_later(seconds + GRACE, file=sys.__stderr__)
    try:
        try:
            yield
        finally:
            waiting = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before if before is not None else signal.SIG_DFL)
        faulthandler.cancel_dump_traceback_later()


def _frames(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    """Return frames of the call and their current lines, without our own."""
    return [
        (frame, line)
        for frame, line in traceback.walk_tb(trace)
        if frame.f_globals.get("__name__") != __name__
    ]


def _place(frames: list[tuple[FrameType, int]], offer: Offer) -> str:
    """Return the location in the plugin: the innermost of its own lines."""
    package = offer.value.partition(":")[0].partition(".")[0]
    for frame, line in reversed(frames):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            return f", {frame.f_code.co_filename} line {line}"
    return ""
