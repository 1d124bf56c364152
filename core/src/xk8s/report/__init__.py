"""`xk8s report`: one archive with all that helps to find out what is wrong, and no keys in it."""

from __future__ import annotations

from xk8s.report.collect import CollectedReport, collect
from xk8s.report.contents import Contents

__all__ = ["CollectedReport", "Contents", "collect"]
