"""Every path in a stack of layers has one owner: checked on the plan, before anything is built.

What is inside an artifact (a Take of a directory, a ready image) is not known yet when the plan
is made; such an entry owns its path prefix only when two layers name the very same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xk8s.errors import PlanError
from xk8s.overlay import Directory, Layer


def check_owners(stack: Sequence[tuple[str, Layer]]) -> None:
    """``stack`` is (overlay, layer), lowest first. `PlanError` naming both overlays and the
    path when a layer writes what a lower one wrote, and does not say ``replaces``.

    A directory may be listed by many layers; layers that no role shares do not meet.
    """
    owners: dict[str, list[tuple[str, Layer]]] = {}
    for overlay, layer in stack:
        for path in _paths(layer):
            for other_overlay, other in owners.get(path, ()):
                if not other.roles & layer.roles or _covered(path, layer.replaces):
                    continue
                both = (
                    f"layers {other.name!r} and {layer.name!r} of overlay {overlay!r}"
                    if other_overlay == overlay
                    else f"overlays {other_overlay!r} (layer {other.name!r}) and {overlay!r} "
                    f"(layer {layer.name!r})"
                )
                raise PlanError(
                    f"{both} both write {path}",
                    where=path,
                    hint=f"leave one out, or let {layer.name!r} say replaces=({path!r},)",
                )
            owners.setdefault(path, []).append((overlay, layer))


def _paths(layer: Layer) -> Iterable[str]:
    seen = set()
    for entry in layer.entries:
        if isinstance(entry, Directory):
            continue
        if entry.path in seen:
            raise PlanError(f"layer {layer.name!r} has {entry.path} twice", where=entry.path)
        seen.add(entry.path)
        yield entry.path


def _covered(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in prefixes)
