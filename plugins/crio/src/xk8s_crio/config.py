"""What other overlays add to CRI-O's configuration."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w
from xk8s.context import Context
from xk8s.fragments import config_sets, merged
from xk8s.overlay import File, Point

CONFIG_POINT = "crio.config"
FILE = "/etc/crio/crio.conf.d/60-overlays.conf"

CONFIG = Point(
    type=Mapping[str, Any],
    help=f"A part of CRI-O's configuration, put into {FILE}: it replaces what the overlay has, a "
    "runtime of crio.runtime.runtimes whole.",
    example={"crio": {"runtime": {"pids_limit": 4096}}},
    sets=config_sets,
)


def fragment_files(ctx: Context) -> Iterator[File]:
    """Return a drop-in with what others add, if anything."""
    added = ctx.fragments(CONFIG_POINT, Mapping)  # type: ignore[type-abstract]
    config = functools.reduce(merged, added, dict[str, Any]())
    if config:
        text = f"# Made by xk8s (overlay crio) of fragments of {CONFIG_POINT}.\n"
        yield File(path=FILE, data=(text + tomli_w.dumps(config)).encode())
