"""The one exception family of xk8s, with a documented exit code each.

Every error says what failed, where, and what to do: ``str(error)`` is the
first, ``error.where`` the second (may be empty) and ``error.hint`` the third.
The CLI prints the three and exits with ``error.exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class Xk8sError(Exception):
    """Base of all errors that xk8s raises on purpose (exit code 1)."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        hint: str = "",
        log: str = "",
        faults: tuple[str, ...] = (),
    ) -> None:
        """Args: message says what failed; where names the place (overlay, node, file, URL); hint
        says what to do; log is the relevant tail of the log (may be many lines); faults are known
        faults recognised in logs, a sentence or two each.
        """
        super().__init__(message)
        self.where = where
        self.hint = hint
        self.log = log
        self.faults = faults


class UsageError(Xk8sError):
    """The command line or a setting is wrong: unknown overlay, unknown setting, bad value."""

    exit_code = 2


class PluginError(Xk8sError):
    """An installed plugin breaks the contract; the message names its distribution."""

    exit_code = 3


class PlanError(Xk8sError):
    """The overlays do not fit together: missing capability, conflict, unmet kernel requirement."""

    exit_code = 4


class HostError(Xk8sError):
    """This machine lacks something: a program, a port, disk space, permissions."""

    exit_code = 5


class ArtifactError(Xk8sError):
    """No source could provide an artifact, or a checksum did not match."""

    exit_code = 6


class BuildError(Xk8sError):
    """A layer could not be built."""

    exit_code = 7


class MachineError(Xk8sError):
    """A virtual machine did not start, stopped by itself, or does not answer."""

    exit_code = 8


class AbsentError(MachineError):
    """A node is dead or paused, and so cannot be asked anything."""


class CheckFailed(Xk8sError):
    """The cluster runs but a check failed or timed out."""

    exit_code = 9


class StateError(Xk8sError):
    """The named cluster does not exist, has ended, is already running, is locked or unreadable."""

    exit_code = 10


class Interrupted(Xk8sError):
    """Stopped by Ctrl-C or SIGTERM, after cleaning up."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? "`` for the known name closest to ``name``, or an empty
    string.
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}? " if found else ""


class SourceFailed(Exception):
    """Why a source could not provide what was asked for; the next source is tried."""

    def __init__(self, reason: str, *, log: str = "") -> None:
        """``log`` is the tail of the output that matters."""
        super().__init__(reason)
        self.log = log
