"""Recipe: containerd's store, filled here by a containerd of our own, as an EROFS image.

A node gets it for nothing: `tmpfiles` copies two small databases into the tmpfs below
/var/lib/containerd and makes links to the blobs and the unpacked snapshots, which stay in the
read-only layer. No image is imported, hashed or unpacked at boot, and none takes memory.

The work is done by `xk8s_containerd.inside`, in a mount namespace (and a user namespace when
we are not root) that ends with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xk8s_images.cri import STORE_MEMBER
from xk8s_images.layout import config_digest, layout_tar
from xk8s_images.stores import find_mkfs, run_in_namespace

if TYPE_CHECKING:
    from xk8s.recipe import RecipeContext


def bake(recipe: RecipeContext) -> None:
    """Write ``store.erofs``. `HostError` says which program is missing; `BuildError` has
    containerd's log.
    """
    mkfs = find_mkfs()
    images = []
    for artifact, ref in sorted(recipe.params["images"].items()):
        recipe.check()
        layout = recipe.inputs[artifact] / "oci"
        archive = recipe.work / f"{artifact}.tar"
        layout_tar(layout, archive)
        images.append(
            {
                "ref": ref,
                "archive": str(archive),
                "id": config_digest(layout),
                "pinned": ref in recipe.params["pinned"],
            }
        )
    job = {
        "images": images,
        "programs": str(recipe.inputs["containerd"]),
        "layer": recipe.params["layer"],
        "out": str(recipe.out / STORE_MEMBER),
        "mkfs": mkfs,
    }
    run_in_namespace(recipe, "xk8s_containerd.inside", job, runtime="containerd")
