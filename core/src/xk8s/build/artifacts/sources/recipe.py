"""`Recipe`: an artifact made by a function of a plugin from other artifacts."""

from __future__ import annotations

from xk8s.build.artifacts.attempt import Kit
from xk8s.recipe import Kitchen
from xk8s.sources import LOCAL, Provenance, Recipe
from xk8s.util.files import content_digest
from xk8s.util.functions import load


def provide(source: Recipe, wanted: frozenset[str], kit: Kit) -> list[Provenance]:
    """Call the function; what it raises passes (a recipe has no partial success)."""
    function = load(source.function)
    function(
        Kitchen(
            name=kit.name,
            out=kit.out,
            work=kit.work,
            params=source.params,
            places=source.places,
            inputs={name: resolved.path for name, resolved in kit.inputs.items()},
            progress=kit.progress,
            offline=kit.offline,
            jobs=kit.jobs,
            mark=kit.mark,
        )
    )
    kind, detail = "recipe", f"{source.function} revision {source.revision}"
    if source.places:
        kind, detail = LOCAL, ", ".join(source.places.values())
    return [
        Provenance(member=member, kind=kind, detail=detail, sha256=content_digest(kit.out / member))
        for member in sorted(wanted)
        if (kit.out / member).exists() or (kit.out / member).is_symlink()
    ]
