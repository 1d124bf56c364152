"""Short programs that answer a question: run to the end, their output as text, logged."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from xk8s.util.log import get_logger

log = get_logger(__name__)


def run_program(
    argv: Sequence[str], *, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program without standard input. Errors are those of `subprocess.run`; an exit code
    is none.
    """
    with log.timed("program_run", argv=argv) as result:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        result["exit_code"] = done.returncode
    return done
