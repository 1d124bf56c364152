"""``python -m xk8s.cli``: the same as ``xk8s``."""

from __future__ import annotations

from xk8s.cli import main

main()
