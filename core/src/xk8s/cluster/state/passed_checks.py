"""What the checks of a cluster depended on when they last passed: ``checked.json`` of its state,
and of its snapshots.

A setting that only a check reads, or the code of a check, is not part of what the nodes are made
of: a snapshot fits, and an apply has nothing to copy. Whether the checks still pass is another
question, and this is how it is noticed that it has to be asked again.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import define, field

from xk8s.cluster.state.guest_files import overlay_digests
from xk8s.overlay import Check
from xk8s.planning.plan import Plan
from xk8s.util.digest import digest, sha256_text
from xk8s.util.log import get_logger
from xk8s.util.paths import write_private

log = get_logger(__name__)

CHECKED = "checked.json"

K = TypeVar("K")


@define(eq=False)
class _Recording(Mapping[K, Any]):
    """A mapping that remembers which keys were asked for."""

    real: Mapping[K, Any]
    asked: dict[K, None] = field(factory=dict)

    def __getitem__(self, key: K) -> Any:
        self.asked[key] = None
        return self.real[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self.real)

    def __len__(self) -> int:
        return len(self.real)

    def seen(self, name_of: Any) -> dict[str, Any]:
        """Names that were looked up, with their values; None for missing ones."""
        return {name_of(key): self.real.get(key) for key in self.asked}


def checks_of(plan: Plan) -> dict[str, tuple[Check, ...]]:
    """Return the checks of each overlay that has any, in the order in which they run."""
    found = {name: plan.registry.hooks.checks(name, plan.ctx) for name in plan.ctx.overlays}
    return {name: checks for name, checks in found.items() if checks}


def check_inputs(plan: Plan) -> dict[str, str]:
    """Per overlay that has checks: a digest of everything that decides whether they pass.

    That is what the overlay contributes to the cluster, its settings, the settings of others and
    the fragments that its hook `xk8s_checks` asks for, and its code.
    """
    contributed = overlay_digests(plan)
    found = {}
    for name in plan.ctx.overlays:
        settings = _Recording(plan.ctx.all_settings)
        fragments = _Recording(plan.ctx.all_fragments)
        ctx = attrs.evolve(plan.ctx, all_settings=settings, all_fragments=fragments)
        if not plan.registry.hooks.checks(name, ctx):
            continue
        if own := plan.registry.overlay(name).settings:
            settings.asked[own] = None
        offer = plan.registry.offer(name)
        found[name] = digest(
            {
                "contributed": contributed[name],
                "settings": settings.seen(lambda cls: f"{cls.__module__}:{cls.__qualname__}"),
                "fragments": fragments.seen(str),
                "version": offer.version,
                "code": _code(offer.value),
            }
        )
    return found


def unchecked(plan: Plan, directory: Path) -> frozenset[str]:
    """Overlays whose checks did not pass yet, or not with what they depend on now. ``directory`` is
    that of a cluster's state or of a snapshot.
    """
    passed = _read(directory)
    return frozenset(name for name, now in check_inputs(plan).items() if passed.get(name) != now)


def remember_passed(plan: Plan, directory: Path, overlays: Iterable[str] | None = None) -> None:
    """Record that all checks of these overlays (None: of all overlays) passed. A full disk costs
    their running once more, and no cluster that is Ready.
    """
    inputs = check_inputs(plan)
    passed = {name: inputs[name] for name in inputs if overlays is None or name in {*overlays}}
    text = json.dumps({**_read(directory), **passed}, indent=1)
    try:
        write_private(directory / CHECKED, text.encode())
    except OSError as error:
        log.info("passed_checks_not_written", path=directory / CHECKED, reason=str(error))


def forget_passed(directory: Path) -> None:
    """Forget which checks would pass."""
    (directory / CHECKED).unlink(missing_ok=True)


def copy_passed(source: Path, target: Path) -> None:
    """Keep it in another place, if it is known."""
    forget_passed(target)
    with contextlib.suppress(FileNotFoundError):
        write_private(target / CHECKED, (source / CHECKED).read_bytes())


def _read(directory: Path) -> dict[str, str]:
    """Return the dependencies by overlay. A file that cannot be read just means that checks run."""
    try:
        found = json.loads((directory / CHECKED).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: text for name, text in found.items() if isinstance(text, str)}


def _code(entry_point: str) -> dict[str, str]:
    """Digests of an imported plugin's source files, by path: its package, or its one module."""
    top = entry_point.partition(":")[0].partition(".")[0]
    origin = getattr(sys.modules.get(top), "__file__", None)
    if origin is None:
        return {}
    main = Path(origin)
    paths = sorted(main.parent.rglob("*.py")) if main.name == "__init__.py" else [main]
    return {
        path.relative_to(main.parent).as_posix(): sha256_text(path.read_bytes()) for path in paths
    }
