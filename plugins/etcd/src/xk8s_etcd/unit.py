"""Command lines of systemd services whose output goes to the journal and to a file.

Kubernetes people look into /var/log/kube-*.log, systemd people call ``journalctl -u``. systemd
writes to one of them only, so a ``tee`` of the service's own control group does both. The
program keeps the main process id: Type=notify and signals work as without.
"""

from __future__ import annotations

from collections.abc import Iterable


def quote(word: str) -> str:
    """Quote one literal word of a command line: no specifier, variable or escape is expanded.

    >>> quote("--a=b"), quote("x y$1%n")
    ('--a=b', '"x y$$1%%n"')
    """
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    plain = text and not set(text) & set(" \t\n\"'\\;")
    return text if plain else '"' + text.replace("\n", "\\n").replace("\t", "\\t") + '"'


def logged(program: str, log: str, words: Iterable[str]) -> str:
    """Return the value of ``ExecStart=``: ``program`` with ``words`` (already in systemd's syntax,
    so that they may use ``${VARIABLE}`` and ``%H``), a line each; ``log`` is the file to append to.
    """
    shell = f"""/bin/bash -c 'exec "$$0" "$$@" > >(exec tee -a {log}) 2>&1'"""
    return " \\\n    ".join([shell, program, *words])
