"""The command line: verbs of the core and of overlays.

Nothing is imported here: `xk8s --help` must not pay for what it does not use.
"""

from __future__ import annotations


def main() -> None:
    """Run the console script; never returns."""
    import sys

    from xk8s.cli.app import run

    sys.exit(run(sys.argv[1:]))
