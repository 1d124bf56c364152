"""What tests of the whole use: the command in a subprocess, with state of its own."""

from __future__ import annotations

from xk8s.testing import Xk8s

__all__ = ["Xk8s"]
