"""Standard streams that whoever started us has closed (``xk8s plan >&-``)."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Let closed ones lead to /dev/null: else the next file that is opened would become standard
    output, and what is printed would end in it.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(descriptor)
            except OSError:
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != descriptor:
                    os.dup2(opened, descriptor)
                    os.close(opened)
            setattr(sys, name, os.fdopen(descriptor, mode))
