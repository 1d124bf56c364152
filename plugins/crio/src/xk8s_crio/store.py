"""Recipe: a read-only image store of containers/storage, filled by skopeo, as an EROFS image.

CRI-O finds it as an additional image store: at boot nothing is copied, imported or unpacked.
The work is done by `xk8s_crio.inside` in namespaces of its own.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from xk8s.errors import HostError
from xk8s_images.cri import STORE_MEMBER
from xk8s_images.stores import find_mkfs, run_in_namespace

if TYPE_CHECKING:
    from xk8s.recipe import RecipeContext


def bake(recipe: RecipeContext) -> None:
    """Write ``store.erofs``. `HostError` says which program is missing; `BuildError` has
    skopeo's words.
    """
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        raise HostError(
            "the program skopeo is not installed",
            where="PATH",
            hint="apt-get install skopeo: it fills CRI-O's image store when the layer is built",
        )
    images = {
        ref: str(recipe.inputs[artifact] / "oci")
        for artifact, ref in sorted(recipe.params["images"].items())
    }
    out = str(recipe.out / STORE_MEMBER)
    job = {"images": images, "skopeo": skopeo, "out": out, "mkfs": find_mkfs()}
    run_in_namespace(recipe, "xk8s_crio.inside", job, runtime="CRI-O")
