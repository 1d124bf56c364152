"""Putting an image into containerd's store on a running node.

`ctr images pull` is told by a hosts directory of its own that the image's registry is the one that
this machine opened for it. To pull is several times faster than `ctr images import`, which hashes
everything once more, and takes only the layers that the node does not have.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

from xk8s.errors import MachineError
from xk8s_images.layout import layout_tar
from xk8s_images.loader import Delivery, Parcel

_CTR = ("ctr", "--namespace", "k8s.io", "images")
_PLATFORM = ("--platform", "linux/amd64")
_MANAGED = "io.cri-containerd.image=managed"
"""The CRI plugin's mark on an image that it knows; see `xk8s_containerd.inside`."""

_SEEN_SECONDS = 15.0
_CHUNK = 1 << 20
"""What the guest agent takes at a time."""


def load(delivery: Delivery) -> None:
    """Pull the image, or import it through the guest agent; return when CRI knows it."""
    before = _listing(delivery)
    place = f"/run/xk8s-load-{secrets.token_hex(8)}"
    try:
        if delivery.door is None:
            _import(delivery, place)
        else:
            _pull(delivery, place)
    finally:
        delivery.run("rm", "-rf", place)
    _verify(delivery)
    _remove_replaced(delivery, before)


def hosts_toml(delivery: Delivery, registry: str) -> str:
    """For ``registry``: ask the one that this machine opened, and no other."""
    door = delivery.door
    assert door is not None
    url = f"http://{delivery.registry}/v2/{door.path}/{registry}"
    return (
        f'server = "{url}"\n'
        f'[host."{url}"]\n'
        'capabilities = ["pull", "resolve"]\n'
        "override_path = true\n"
    )


def _pull(delivery: Delivery, place: str) -> None:
    parcel = delivery.parcel
    registry = parcel.repository.partition("/")[0]
    delivery.say(f"pulling {parcel.ref}")
    text = hosts_toml(delivery, registry)
    delivery.write(f"{place}/{registry}/hosts.toml", text.encode())
    delivery.run(*_CTR, "pull", *_PLATFORM, "--hosts-dir", place, parcel.ref)


def _import(delivery: Delivery, place: str) -> None:
    """The slow way: a megabyte a second, and hashed three times."""
    archive = f"{place}/image.tar"
    delivery.write(archive, b"")
    with tempfile.TemporaryDirectory(prefix="xk8s-load-") as scratch:
        packed = Path(scratch) / "image.tar"
        layout_tar(delivery.parcel.layout, packed)
        total, done = packed.stat().st_size, 0
        with packed.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                delivery.say(f"by the guest agent: {done >> 20} of {total >> 20} MiB")
                # Piece by piece, so that others get their turn with the agent.
                delivery.run(
                    "dd", f"of={archive}", "oflag=append", "conv=notrunc", "status=none",
                    stdin=chunk,
                )  # fmt: skip
                done += len(chunk)
    delivery.say(f"importing {delivery.parcel.ref}")
    delivery.run(*_CTR, "import", "--local", *_PLATFORM, archive)


def _verify(delivery: Delivery) -> None:
    parcel = delivery.parcel
    delivery.say("verifying")
    until = time.monotonic() + _SEEN_SECONDS
    while not _found(delivery, parcel):
        if time.monotonic() > until:
            raise MachineError(
                f"containerd's CRI plugin does not see {parcel.ref} as {parcel.digest}",
                where=delivery.node,
                hint=f"xk8s logs {delivery.node} containerd",
                log=delivery.run(*_CTR, "check", f"name=={parcel.ref}"),
            )
        time.sleep(0.2)


def _found(delivery: Delivery, parcel: Parcel) -> bool:
    """Whether the image is there by its digest, known to CRI, complete and unpacked."""
    listing = _listing(delivery)
    if any(listing.get(name) != parcel.digest for name in (parcel.ref, parcel.id)):
        return False
    # REF TYPE DIGEST STATUS SIZE UNPACKED; the status is "complete (2/2)".
    lines = delivery.run(*_CTR, "check", f"name=={parcel.ref}").splitlines()
    words = lines[-1].split()
    return parcel.digest in words and "complete" in words and words[-1] == "true"


def _listing(delivery: Delivery) -> dict[str, str]:
    """Name -> digest of the images that the CRI plugin knows."""
    lines = delivery.run(*_CTR, "list").splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines if _MANAGED in line}


def _remove_replaced(delivery: Delivery, before: dict[str, str]) -> None:
    """Forget the image that had this name until now, when nothing else calls it by another one:
    the node keeps images in memory, and whoever works on one loads it again and again.
    """
    old = before.get(delivery.parcel.ref)
    now = _listing(delivery)
    names = [name for name, digest in now.items() if digest == old]
    if old != delivery.parcel.digest and all(name.startswith("sha256:") for name in names):
        for name in names:
            delivery.run(*_CTR, "remove", name)
