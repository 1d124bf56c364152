"""`Recipe`: an artifact made by a function of a plugin from other artifacts."""

from __future__ import annotations

from xk8s.build.artifacts.attempt import Attempt
from xk8s.recipe import RecipeContext
from xk8s.sources import LOCAL, Provenance, Recipe
from xk8s.util.files import content_digest
from xk8s.util.functions import load_function


def provide(source: Recipe, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
    """Call the function; what it raises passes (a recipe has no partial success)."""
    function = load_function(source.function)
    function(
        RecipeContext(
            name=attempt.name,
            out=attempt.out,
            work=attempt.work,
            params=source.params,
            places=source.places,
            inputs={name: resolved.path for name, resolved in attempt.inputs.items()},
            progress=attempt.progress,
            offline=attempt.offline,
            jobs=attempt.jobs,
            mark=attempt.mark,
        )
    )
    kind, detail = "recipe", f"{source.function} revision {source.revision}"
    if source.places:
        kind, detail = LOCAL, ", ".join(source.places.values())
    return [
        Provenance(
            member=member, kind=kind, detail=detail, sha256=content_digest(attempt.out / member)
        )
        for member in sorted(wanted)
        if (attempt.out / member).exists() or (attempt.out / member).is_symlink()
    ]
