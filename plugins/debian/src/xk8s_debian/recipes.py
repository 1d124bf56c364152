"""The recipe functions of this overlay's artifacts (`xk8s.sources.Recipe`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xk8s_debian import initramfs
from xk8s_debian.base import build_base
from xk8s_debian.kernel import facts_from_json, missing_facts, recorded_facts
from xk8s_debian.mirror import sources_list

if TYPE_CHECKING:
    from xk8s.recipe import RecipeContext


def make_base(recipe: RecipeContext) -> None:
    """Make the artifact ``debian-base``."""
    suite = str(recipe.params["suite"])

    def show(line: str) -> None:
        # mmdebstrap's own steps, e.g. "I: extracting archives..."
        if line.startswith("I: ") and "customize-hook" not in line:
            recipe.progress.item(recipe.name, line.removeprefix("I: ").rstrip(". "))

    build_base(
        recipe.out,
        suite=suite,
        packages=list(recipe.params["packages"]),
        kernel=str(recipe.params["kernel"]),
        sources=sources_list(suite),
        run=lambda argv, *, env: recipe.run(argv, env=env, on_line=show),
    )
    actual = facts_from_json((recipe.out / "kernel-facts.json").read_text())
    lacking = missing_facts(recorded_facts(), actual)
    if lacking:
        some = ", ".join(lacking[:5]) + (" …" if len(lacking) > 5 else "")
        recipe.progress.note(
            f"kernel {actual.release} lacks {len(lacking)} of what the plan was checked "
            f"against: {some}; record it again: python -m xk8s_debian.record_kernel"
        )


def make_initramfs(recipe: RecipeContext) -> None:
    """Make the artifact ``debian-initramfs``, from ``debian-base``."""
    base = recipe.inputs["debian-base"]
    image = initramfs.build(
        init=str(recipe.params["init"]), busybox=base / "busybox", modules=base / "modules"
    )
    (recipe.out / "initramfs.img").write_bytes(image)
