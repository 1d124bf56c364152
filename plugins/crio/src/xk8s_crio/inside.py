"""``python -m xk8s_crio.inside JOB.json``: fills an image store, in namespaces of its own.

Started by `xk8s_crio.store.bake` as root of a mount namespace, in a scratch directory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from xk8s_images.stores import write_erofs
from xk8s_images.whiteouts import make_portable

from xk8s_crio.artifacts import STORE_IN_LAYER

_CONFIG = """\
[storage]
driver = "overlay"
graphroot = "{store}"
runroot = "{run}"
"""


def main(job_path: str) -> None:
    """Do the job: copy every layout into the store, make the image."""
    job = json.loads(Path(job_path).read_text())
    work = Path.cwd()
    tree = work / "tree"
    store = tree / STORE_IN_LAYER
    store.mkdir(parents=True)
    run = work / "run"
    # All of the host's own configuration of containers stays out of it.
    config = work / "storage.conf"
    config.write_text(_CONFIG.format(store=store, run=run))
    for ref, layout in job["images"].items():
        target = f"containers-storage:[overlay@{store}+{run}]{ref}"
        subprocess.run(
            [job["skopeo"], "--insecure-policy", "copy", "--quiet", f"oci:{layout}", target],
            check=True,
            env={"CONTAINERS_STORAGE_CONF": str(config), "HOME": str(work), "PATH": "/usr/bin"},
        )
    tidy(store)
    for directory in (tree, *list(store.parents)[: len(Path(STORE_IN_LAYER).parts)], store):
        directory.chmod(0o755)
    write_erofs(job["mkfs"], tree, Path(job["out"]))


def tidy(store: Path) -> None:
    """Leave what a read-only store needs: images, layers and their locks.

    The node must not rely on what skopeo found out about this host's file system.
    """
    for name in ("mounts", "tmp", "overlay-containers", "userns.lock", "defaultNetworkBackend"):
        path = store / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for mark in (store / "overlay").glob(".has-mount-program"):
        mark.unlink()
    layers = [path for path in sorted((store / "overlay").iterdir()) if (path / "diff").is_dir()]
    for layer in layers:
        for scratch in ("merged", "work", "empty"):
            shutil.rmtree(layer / scratch, ignore_errors=True)
    make_portable([layer / "diff" for layer in layers])


if __name__ == "__main__":
    main(sys.argv[1])
