"""Loading an image into CRI-O's store on a running node.

CRI-O has no program that imports: a file in registries.conf.d tells it that the image's repository
is at the registry which this machine opened for it; it pulls, and the file is removed.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from xk8s.context import ClusterAccess
from xk8s.errors import MachineError
from xk8s_images.loader import Delivery, list_images

_DIRECTORY = "/etc/containers/registries.conf.d"
_CRIO = "crio.service"
_TRIES = 5
_RELOAD_SECONDS = 1.0
"""CRI-O does not say when it has read its configuration again; only what it pulled shows it."""


def load(delivery: Delivery) -> None:
    """Have CRI-O pull the image; return when it has it, by its ID or digest."""
    parcel = delivery.parcel
    if delivery.door is None:
        raise MachineError(
            "this machine is unreachable through its management network, and CRI-O can only pull",
            where=delivery.node,
            hint=f"xk8s net link {delivery.node} eth0 up; xk8s exec {delivery.node} -- ip route",
        )
    before = _status(delivery, parcel.ref)
    # The last one of the directory counts.
    path = f"{_DIRECTORY}/zz-xk8s-load-{secrets.token_hex(8)}.conf"
    try:
        delivery.write(path, registries_conf(delivery).encode())
        _pull(delivery)
    finally:
        delivery.run("rm", "-f", path)
        _reload(delivery)
    _remove_replaced(delivery, before)


def registries_conf(delivery: Delivery) -> str:
    """Return the configuration that finds the image's repository on this machine, and
    nowhere else.
    """
    door, repository = delivery.door, delivery.parcel.repository
    assert door is not None
    return (
        "[[registry]]\n"
        f'prefix = "{repository}"\n'
        f'location = "{delivery.registry}/{door.path}/{repository}"\n'
        "insecure = true\n"
    )


def _pull(delivery: Delivery) -> None:
    parcel = delivery.parcel
    log = ""
    for attempt in range(1, _TRIES + 1):
        _reload(delivery)
        time.sleep(_RELOAD_SECONDS * attempt)
        delivery.say(f"pulling {parcel.ref}")
        try:
            delivery.run("crictl", "pull", parcel.ref)
        except MachineError as error:
            log = error.log
            continue
        delivery.say("verifying")
        status = _status(delivery, parcel.ref)
        if _is(status, parcel.id, parcel.digest):
            return
        log = f"it has {status.get('id')} {' '.join(status.get('repoDigests') or ())}"
    raise MachineError(
        f"CRI-O did not pull {parcel.ref} as {parcel.digest}",
        where=delivery.node,
        hint=f"xk8s logs {delivery.node} crio",
        log=log,
    )


def _is(status: dict[str, Any], identity: str, digest: str) -> bool:
    same = str(status.get("id", "")).removeprefix("sha256:") == identity.removeprefix("sha256:")
    digests = status.get("repoDigests") or ()
    return same or any(str(ref).endswith(f"@{digest}") for ref in digests)


def _reload(delivery: Delivery) -> None:
    delivery.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", _CRIO)


def listing(access: ClusterAccess, node: str) -> dict[str, frozenset[str]]:
    """Return the output of `crictl images` on a node. `MachineError` if it fails."""
    argv = ("crictl", "images", "--output", "json")
    text = list_images(access, node, argv, runtime="CRI-O")
    try:
        return names(text)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise MachineError(
            f"{node}: CRI-O's list of images makes no sense: {error}", where=node
        ) from error


def names(text: bytes) -> dict[str, frozenset[str]]:
    """Map references to ID and digests, from a list of images in JSON."""
    found: dict[str, frozenset[str]] = {}
    for image in json.loads(text).get("images", ()):
        digests = {str(ref).rpartition("@")[2] for ref in image.get("repoDigests") or ()}
        identity = "sha256:" + str(image.get("id", "")).removeprefix("sha256:")
        for ref in image.get("repoTags") or ():
            found[ref] = frozenset({identity, *digests})
    return found


def _status(delivery: Delivery, image: str) -> dict[str, Any]:
    """Return what CRI-O knows of an image; {} if it has none of that name."""
    text = delivery.run("crictl", "inspecti", "--output", "json", image, ok=(0, 1))
    try:
        return dict(json.loads(text)["status"])
    except (ValueError, KeyError, TypeError):
        return {}


def _remove_replaced(delivery: Delivery, before: dict[str, Any]) -> None:
    """Remove the image that had this name before, unless it has another name or a container uses
    it: the node keeps images in memory.
    """
    if not before or _is(before, delivery.parcel.id, delivery.parcel.digest):
        return
    old = str(before["id"])
    if not _status(delivery, old).get("repoTags"):
        delivery.run("crictl", "rmi", old, ok=(0, 1))
