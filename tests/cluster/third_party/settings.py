"""The settings: ``xk8s explain my-overlay`` shows them."""

from __future__ import annotations

from attrs import frozen
from xk8s.overlay import setting


@frozen(kw_only=True)
class Settings:
    """One field each: type, default, what it means."""

    pods: int = setting(30, "how many pods a node takes")
