"""containerd's configuration, and what other overlays add to it."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tomli_w
from attrs import evolve
from xk8s.context import Context
from xk8s.fragments import config_sets, merged
from xk8s.overlay import File, Point

CONFIG_POINT = "containerd.config"
FILE = "/etc/containerd/config.toml"

CONFIG = Point(
    type=Mapping[str, Any],
    help=f"A part of containerd's configuration (version 3), merged into {FILE}: it replaces what "
    "the overlay has, lists whole.",
    example={
        "plugins": {
            "io.containerd.cri.v1.runtime": {"device_ownership_from_security_context": True}
        }
    },
    sets=config_sets,
)


def with_fragments(ctx: Context, files: Iterable[File]) -> Iterator[File]:
    """Return the files, with what others add to the configuration; without additions, it is as
    written, with its comments.
    """
    added = ctx.fragments(CONFIG_POINT, Mapping)  # type: ignore[type-abstract]
    for file in files:
        if file.path != FILE or not added:
            yield file
            continue
        config = functools.reduce(merged, added, tomllib.loads(file.data.decode()))
        text = f"# Made by xk8s (overlay containerd), with fragments of {CONFIG_POINT}.\n"
        yield evolve(file, data=(text + tomli_w.dumps(config)).encode())
