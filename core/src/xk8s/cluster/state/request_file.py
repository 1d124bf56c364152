"""The kept request: what gives the plan of a cluster again, whatever became of its sources.

``request.json`` names the directory below ``local/`` with the copies of the local directories among
its overlays. New copies are complete before the request names them, and only then the earlier ones
go: cut anywhere, the request and its copies are those of one plan.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs import field, frozen

from xk8s.build.layers.build import stage_entries
from xk8s.cluster.state.documents import read_document
from xk8s.names.request import Request
from xk8s.planning.plan import Plan
from xk8s.util.digest import plain
from xk8s.util.files import put_in_place, remove_tree
from xk8s.util.paths import state_dir, write_private

REQUEST, PLAN = "request.json", "plan.json"

LOCAL = "local"
"""Directory with copies of the local directories among the overlays, by number: these may change
or go while the cluster runs."""

_VERSION = 2


@frozen(kw_only=True)
class KeptRequest:
    """Content of the file. ``local``: name of the directory with the copies, "" for none."""

    version: int = _VERSION
    overlays: tuple[str, ...]
    settings: dict[str, dict[str, Any]] = field(factory=dict)
    local: str = ""


def write_inputs(plan: Plan) -> None:
    """Keep the plan, and the request in a form that gives the same plan again."""
    directory = state_dir(plan.name)
    local = _write_local(plan, directory)
    write_private(directory / PLAN, json.dumps(plan.to_json(), indent=1).encode())
    settings: dict[str, dict[str, object]] = {}
    for value in plan.settings:
        if value.origin != "default":
            settings.setdefault(value.overlay, {})[value.name] = plain(value.value)
    # Choices are recorded as if they had been requested: the cluster keeps its CRI even if
    # another one becomes available later.
    _write(
        KeptRequest(overlays=tuple(plan.ctx.overlays), settings=settings, local=local), directory
    )
    _remove_others(directory / LOCAL, local)


def read_request(name: str) -> Request:
    """Return the request that gives the running cluster's plan again."""
    directory = state_dir(name)
    kept = _read(directory)
    return Request(
        overlays=kept.overlays,
        name=name,
        stored=kept.settings,
        environment={},
        kept=directory / LOCAL / (kept.local or "none"),
    )


def write_counts(name: str, counts: Mapping[str, int]) -> None:
    """Give the kept request other numbers of VMs (settings of the cluster); the rest stays."""
    directory = state_dir(name)
    kept = _read(directory)
    cluster = {**kept.settings.get("cluster", {}), **counts}
    _write(attrs.evolve(kept, settings={**kept.settings, "cluster": cluster}), directory)


def _write_local(plan: Plan, directory: Path) -> str:
    """Copy what the plan has of local directories; return the name of the copies' directory."""
    if not plan.directories:
        return ""
    copies, name = directory / LOCAL, secrets.token_hex(4)
    copies.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = copies / f"{name}.new"
    work.mkdir()
    entries = {planned.layer.name: planned.layer.entries for planned in plan.layers}
    for number, override in enumerate(plan.directories):
        stage_entries(entries[override.layer], {}, work / str(number), label=override.directory)
    put_in_place(work, copies / name)
    return name


def _remove_others(copies: Path, name: str) -> None:
    if not name:
        remove_tree(copies)
        return
    for path in copies.iterdir():
        if path.name != name:
            remove_tree(path)


def _write(request: KeptRequest, directory: Path) -> None:
    write_private(directory / REQUEST, json.dumps(cattrs.unstructure(request), indent=1).encode())


def _read(directory: Path) -> KeptRequest:
    what = f"the overlays and settings of {directory.name!r} are unknown"
    return read_document(
        directory / REQUEST,
        KeptRequest,
        version=_VERSION,
        what=what,
        valid=lambda kept: "/" not in kept.local and kept.local != "..",
    )
