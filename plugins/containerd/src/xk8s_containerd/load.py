"""Loading an image into containerd's store on a running node.

A separate hosts directory tells `ctr images pull` that the image's registry is the one that this
machine opened for it. Pulling is several times faster than `ctr images import`, which hashes
everything again, and transfers only the layers that the node does not have.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

from xk8s.context import ClusterAccess
from xk8s.errors import MachineError
from xk8s_images.layout import layout_tar
from xk8s_images.loader import Delivery, LoadableImage, list_images

_CTR = ("ctr", "--namespace", "k8s.io", "images")
_PLATFORM = ("--platform", "linux/amd64")

_PULL = """\
place=$1
mkdir -p "$place/$2" && cat >"$place/$2/hosts.toml" && shift 2 && "$@"
code=$?
rm -rf "$place"
exit $code
"""

_SEEN_SECONDS = 15.0
_CHUNK = 1 << 20
"""Amount that the guest agent takes at a time."""


def load(delivery: Delivery) -> None:
    """Pull the image, or import it through the guest agent; return when CRI knows it."""
    delivery.say(f"looking for {delivery.parcel.ref}")
    before = _listing(delivery)
    place = f"/run/xk8s-load-{secrets.token_hex(8)}"
    if delivery.door is None:
        _import(delivery, place)
    else:
        _pull(delivery, place)
    _verify(delivery)
    _remove_replaced(delivery, before)


def hosts_toml(delivery: Delivery) -> str:
    """Return the configuration of the image's registry: use the one that this machine opened, and
    no other.
    """
    door = delivery.door
    assert door is not None
    url = f"http://{delivery.registry}/v2/{door.path}/{delivery.parcel.registry}"
    return (
        f'server = "{url}"\n'
        f'[host."{url}"]\n'
        'capabilities = ["pull", "resolve"]\n'
        "override_path = true\n"
    )


def _pull(delivery: Delivery, place: str) -> None:
    parcel = delivery.parcel
    delivery.say(f"pulling {parcel.ref}")
    # One command, so that what it needs is removed even if nobody waits for its end.
    script = ("sh", "-c", _PULL, "sh", place, parcel.registry)
    pull = (*_CTR, "pull", *_PLATFORM, "--hosts-dir", place, parcel.ref)
    delivery.run(*script, *pull, stdin=hosts_toml(delivery).encode(), what="ctr images pull")


def _import(delivery: Delivery, place: str) -> None:
    """Import the slow way: a megabyte a second, and hashed three times."""
    archive = f"{place}/image.tar"
    try:
        delivery.write(archive, b"")
        _send(delivery, archive)
        delivery.say(f"importing {delivery.parcel.ref}")
        delivery.run(*_CTR, "import", "--local", *_PLATFORM, archive)
    finally:
        delivery.run("rm", "-rf", place)


def _send(delivery: Delivery, archive: str) -> None:
    with tempfile.TemporaryDirectory(prefix="xk8s-load-") as scratch:
        packed = Path(scratch) / "image.tar"
        layout_tar(delivery.parcel.layout, packed)
        total, done = packed.stat().st_size, 0
        with packed.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                delivery.say(f"through the guest agent: {done >> 20} of {total >> 20} MiB")
                # Piece by piece, so that others get their turn with the agent.
                delivery.run(
                    "dd", f"of={archive}", "oflag=append", "conv=notrunc", "status=none",
                    stdin=chunk,
                )  # fmt: skip
                done += len(chunk)


def _verify(delivery: Delivery) -> None:
    """Wait until CRI knows the image: it lists it by its ID too, once it is complete."""
    parcel = delivery.parcel
    delivery.say("verifying")
    until = time.monotonic() + _SEEN_SECONDS
    while True:
        # Programs start slowly without KVM: both names are asked for at once.
        said = delivery.run(*_CTR, "check", f"name=={parcel.ref}", f"name=={parcel.id}")
        if _complete(said, parcel):
            return
        if time.monotonic() > until:
            raise MachineError(
                f"containerd's CRI plugin does not see {parcel.ref} as {parcel.digest}",
                where=delivery.node,
                hint=f"xk8s logs {delivery.node} containerd",
                log=said,
            )
        time.sleep(0.2)


def _complete(listing: str, parcel: LoadableImage) -> bool:
    """Return whether both names are listed with the image's digest, complete and unpacked."""
    # REF TYPE DIGEST STATUS SIZE UNPACKED; the status is "complete (2/2)".
    good = set()
    for line in listing.splitlines():
        words = line.split()
        if parcel.digest in words and "complete" in words and words[-1] == "true":
            good.add(words[0])
    return good >= {parcel.ref, parcel.id}


def listing(access: ClusterAccess, node: str) -> dict[str, frozenset[str]]:
    """Return the output of `ctr images list` on a node. `MachineError` if it fails."""
    text = list_images(access, node, (*_CTR, "list"), runtime="containerd").decode(errors="replace")
    return {name: frozenset((digest,)) for name, digest in _names(text).items()}


def _listing(delivery: Delivery) -> dict[str, str]:
    """Map the names of images to their digests."""
    return _names(delivery.run(*_CTR, "list"))


def _names(text: str) -> dict[str, str]:
    lines = text.splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


def _remove_replaced(delivery: Delivery, before: dict[str, str]) -> None:
    """Remove the image that had this name before, unless it has another name: the node keeps images
    in memory, and whoever works on one loads it again and again.
    """
    parcel = delivery.parcel
    old = before.get(parcel.ref)
    names = [name for name, digest in before.items() if digest == old and name != parcel.ref]
    if old not in (None, parcel.digest) and all(name.startswith("sha256:") for name in names):
        for name in names:
            delivery.run(*_CTR, "remove", name)
