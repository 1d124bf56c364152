"""``python -m xk8s_containerd.inside JOB.json``: fills a store, in namespaces of its own.

Started by `xk8s_containerd.store.bake` as root of a mount namespace, in a scratch directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xk8s_images.stores import write_erofs
from xk8s_images.whiteouts import make_portable

LABEL_MANAGED = "io.cri-containerd.image=managed"
LABEL_PINNED = "io.cri-containerd.pinned=pinned"
"""Labels without which the CRI plugin would look into every image when the node boots."""

_START_SECONDS = 30.0
_SOCKET = "/proc/self/cwd/c.sock"
"""Path through the working directory: that of a cache may be longer than a socket's path can be."""

_CONTENT = "io.containerd.content.v1.content/blobs/sha256"
_METADATA = "io.containerd.metadata.v1.bolt/meta.db"
_SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"
_IN_LAYER = "usr/lib/xk8s/containerd"

CONFIG = """\
version = 3
root = "{work}/root"
state = "{work}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.nri.v1.nri",
  "io.containerd.internal.v1.opt",
]
[grpc]
address = "{socket}"
"""


def main(job_path: str) -> None:
    """Do the job: import, label, link, make the image."""
    job = json.loads(Path(job_path).read_text())
    work = Path.cwd()
    programs = Path(job["programs"])
    (work / "config.toml").write_text(CONFIG.format(work=work, socket=_SOCKET))
    server = subprocess.Popen([programs / "containerd", "--config", work / "config.toml"])
    try:
        _wait_for(work / "c.sock", server)
        for image in job["images"]:
            _import(programs / "ctr", image)
    finally:
        server.terminate()
        server.wait(30)
    tree = work / "tree"
    collect(work / "root", tree, layer=job["layer"])
    write_erofs(job["mkfs"], tree, Path(job["out"]))


def _wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while not socket.exists():
        if server.poll() is not None:
            sys.exit(f"containerd ended with exit code {server.returncode}")
        if time.monotonic() > until:
            sys.exit(f"containerd did not open its socket in {_START_SECONDS:.0f} s")
        time.sleep(0.02)


def _import(ctr: Path, image: dict[str, Any]) -> None:
    def run(*words: str) -> None:
        subprocess.run([ctr, "-a", _SOCKET, "-n", "k8s.io", "images", *words], check=True)

    labels = [LABEL_MANAGED, *([LABEL_PINNED] if image["pinned"] else [])]
    run("import", "--local", "--platform", "linux/amd64", "--snapshotter", "overlayfs",
        image["archive"])  # fmt: skip
    # CRI finds an image by its reference and by its ID, the digest of its config.
    run("tag", "--local", "--force", image["ref"], image["id"])
    for name in (image["ref"], image["id"]):
        run("label", name, *labels)


def collect(root: Path, tree: Path, *, layer: str) -> None:
    """Move what a node needs of containerd's root directory into ``tree``, the layer's content,
    with the tmpfiles.d configuration that puts it in its place.
    """
    store = tree / _IN_LAYER
    (store / "blobs").mkdir(parents=True)
    (root / _METADATA).rename(store / "meta.db")
    (root / _SNAPSHOTTER / "metadata.db").rename(store / "snapshots.db")
    (root / _SNAPSHOTTER / "snapshots").rename(store / "snapshots")
    for blob in sorted((root / _CONTENT).iterdir()):
        blob.rename(store / "blobs" / blob.name)
    make_portable([snapshot / "fs" for snapshot in sorted((store / "snapshots").iterdir())])
    # containerd gives directories mode 0700; pods of other users must get through.
    for directory in (tree, *tree.rglob("*")):
        if directory == store / "snapshots" or not directory.is_relative_to(store / "snapshots"):
            directory.chmod(0o755 if directory.is_dir() else 0o644)
    config = tree / "usr/lib/tmpfiles.d/xk8s-containerd-store.conf"
    config.parent.mkdir(parents=True)
    blobs = [blob.name for blob in sorted((store / "blobs").iterdir())]
    snapshots = sorted((s.name for s in (store / "snapshots").iterdir()), key=int)
    config.write_text("".join(f"{line}\n" for line in tmpfiles(layer, blobs, snapshots)))
    for directory in (config.parent, config.parent.parent):
        directory.chmod(0o755)
    config.chmod(0o644)


def tmpfiles(layer: str, blobs: Iterable[str], snapshots: Iterable[str]) -> Iterable[str]:
    """Return lines for tmpfiles.d: copies of the databases, links to everything else.

    The layer's own mount is used, not the merged root: overlayfs counts how deep it is stacked.
    """
    source, target = f"/run/xk8s/layers/{layer}/{_IN_LAYER}", "/var/lib/containerd"
    for directory in (
        "io.containerd.metadata.v1.bolt",
        "io.containerd.content.v1.content",
        "io.containerd.content.v1.content/blobs",
        _CONTENT,
        _SNAPSHOTTER,
        f"{_SNAPSHOTTER}/snapshots",
    ):
        yield f"d {target}/{directory} 0711 root root -"
    yield f"C {target}/{_METADATA} 0644 root root - {source}/meta.db"
    yield f"C {target}/{_SNAPSHOTTER}/metadata.db 0600 root root - {source}/snapshots.db"
    for blob in blobs:
        yield f"L {target}/{_CONTENT}/{blob} - - - - {source}/blobs/{blob}"
    for number in snapshots:
        yield f"L {target}/{_SNAPSHOTTER}/snapshots/{number} - - - - {source}/snapshots/{number}"


if __name__ == "__main__":
    main(sys.argv[1])
