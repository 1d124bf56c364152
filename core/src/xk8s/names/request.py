"""What a command was asked for: the input of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen


@frozen(kw_only=True)
class Request:
    """What a command was asked for. ``sets`` are "overlay.field=value" texts; for one key they add
    up if it is a list or a table, otherwise the last one counts. ``config_file`` None means
    ./xk8s.toml if it exists; ``environment`` None means that of this process. ``kept`` are copies
    of the local directories among the overlays, by number: these are used, except for those to be
    read ``again``.
    """

    overlays: tuple[str, ...]
    name: str = "xk8s"
    sets: tuple[str, ...] = ()
    config_file: Path | None = None
    environment: Mapping[str, str] | None = None
    stored: Mapping[str, Mapping[str, Any]] | None = None
    kept: Path | None = None
    again: frozenset[str] = frozenset()
