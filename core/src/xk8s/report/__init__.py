"""`xk8s report`: one archive with everything needed for troubleshooting, and no keys in it."""

from __future__ import annotations

from xk8s.report.collect import CollectedReport, collect
from xk8s.report.contents import Contents

__all__ = ["CollectedReport", "Contents", "collect"]
