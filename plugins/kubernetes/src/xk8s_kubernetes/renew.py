"""Renewal of what a rotation of the keys leaves within Kubernetes: copies of the authorities in
ConfigMaps, tokens in Secrets, and pods that hold either.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from attrs import frozen
from xk8s.checks import NotYet
from xk8s.context import ClusterAccess
from xk8s.errors import MachineError
from xk8s.pki import Keys
from xk8s.progress import Progress

from xk8s_kubernetes.api import Api, connect
from xk8s_kubernetes.secrets import CA, FRONT_PROXY_CA

T = TypeVar("T")

SECONDS = 300.0
"""Seconds for each step: it takes a few requests, but everything starts at this time."""

CONTROLLERS = frozenset({"DaemonSet", "ReplicaSet", "ReplicationController", "StatefulSet"})
"""Kinds that recreate a deleted pod. A Job would count it as failed."""

_AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
_ROOT_CA = "kube-root-ca.crt"
_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105 - the type of a Secret


@frozen(kw_only=True)
class Renewed:
    """Pods as namespace/name: ``recreated`` ones, and those that nothing would recreate, in which
    only the files were renewed.
    """

    recreated: tuple[str, ...]
    left: tuple[str, ...]


def renew(access: ClusterAccess, progress: Progress) -> Renewed:
    """Give everything in the cluster the present authorities and tokens. `MachineError` says what
    is still missing.
    """
    keys = access.keys
    api = connect(access.state_dir / "kubeconfig")

    def wait(what: str, look: Callable[[], T]) -> T:
        progress.item("renew", what)
        return until(what, look)

    wait("API server", lambda: api.text("/readyz"))
    wait("authorities of aggregated API servers", lambda: _authentication(api, keys))
    wait("the authority in every namespace", lambda: _root_ca(api, keys))
    secrets = wait("tokens in Secrets", lambda: _drop_tokens(api))
    wait("new tokens in Secrets", lambda: _have_tokens(api, secrets))
    pods = wait("pods", lambda: [pod for pod in _items(api, "pods") if holds_keys(pod, secrets)])
    made_anew = [pod for pod in pods if controller(pod) in CONTROLLERS]
    for pod in made_anew:
        wait("pods", functools.partial(api.delete, _path("pods", pod), at_once=False))
    gone = {pod["metadata"]["uid"] for pod in made_anew}
    wait("pods that end", lambda: _are_gone(api, gone))
    progress.finish("renew")
    return Renewed(
        recreated=tuple(sorted(_name(pod) for pod in made_anew)),
        left=tuple(sorted(_name(pod) for pod in pods if pod not in made_anew)),
    )


def until(what: str, look: Callable[[], T], *, seconds: float = SECONDS) -> T:
    """Return what ``look`` returns once it does not raise `NotYet`; `MachineError` after
    ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return look()
        except NotYet as seen:
            if time.monotonic() > deadline:
                raise MachineError(
                    f"still missing after {seconds:.0f} s: {what}; last seen: {seen}",
                    where="Kubernetes",
                    hint="look at the logs (xk8s logs vm-001 kube-controller-manager); then run "
                    "it again: it continues",
                ) from seen
        time.sleep(0.5)


def _authentication(api: Api, keys: Keys) -> None:
    """Recreate this ConfigMap: the API server adds its authorities to it and never removes any, so
    whoever authenticates by it would continue to trust the old ones. A deleted one is recreated.
    """
    data = api.get(_AUTHENTICATION).get("data") or {}
    for field, name in (
        ("client-ca-file", CA),
        ("requestheader-client-ca-file", FRONT_PROXY_CA),
    ):
        if data.get(field, "").strip() != keys.ca(name).cert.decode().strip():
            api.delete(_AUTHENTICATION)
            raise NotYet(f"{field} has another authority")


def _root_ca(api: Api, keys: Keys) -> None:
    wanted = keys.ca(CA).cert.decode().strip()
    there = {
        config_map["metadata"]["namespace"]
        for config_map in _items(api, "configmaps", f"?fieldSelector=metadata.name%3D{_ROOT_CA}")
        if (config_map.get("data") or {}).get("ca.crt", "").strip() == wanted
    }
    spaces = _items(api, "namespaces")
    wanting = {
        space["metadata"]["name"]
        for space in spaces
        if "deletionTimestamp" not in space["metadata"]
    }
    if missing := wanting - there:
        raise NotYet(f"the old one is in {', '.join(sorted(missing))}")


def _drop_tokens(api: Api) -> tuple[str, ...]:
    """Remove the tokens of Secrets that were made for a token; without it they get a new one.
    Return the paths of these Secrets.
    """
    paths = [
        _path("secrets", secret)
        for secret in _items(api, "secrets", f"?fieldSelector=type%3D{_TOKEN}")
    ]
    for path in paths:
        api.patch(path, {"data": {"token": None}})
    return tuple(paths)


def _have_tokens(api: Api, secrets: Iterable[str]) -> None:
    # Not "a different one": with the same key such a token is the same, since it has no times.
    for path in secrets:
        if not (api.get(path).get("data") or {}).get("token"):
            raise NotYet(f"{path.rpartition('/')[2]} has no new token")


def holds_keys(pod: dict[str, Any], secrets: Iterable[str]) -> bool:
    """Return whether a running pod has a token or an authority of the cluster among its files."""
    meta = pod["metadata"]
    if "deletionTimestamp" in meta or pod["status"].get("phase") in ("Succeeded", "Failed"):
        return False
    of_tokens = {path.rpartition("/")[2] for path in secrets if f"/{meta['namespace']}/" in path}
    for volume in pod["spec"].get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            secret = source.get("secret") or {}
            if (
                "serviceAccountToken" in source
                or (source.get("configMap") or {}).get("name") == _ROOT_CA
                or secret.get("secretName", secret.get("name")) in of_tokens
            ):
                return True
    return False


def controller(pod: dict[str, Any]) -> str:
    """Return the kind of what recreates the pod; "" for a bare pod."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["kind"])
    return ""


def _are_gone(api: Api, uids: set[str]) -> None:
    there = [_name(pod) for pod in _items(api, "pods") if pod["metadata"]["uid"] in uids]
    if there:
        raise NotYet(f"{', '.join(sorted(there))} still exist")


def _items(api: Api, kind: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/api/v1/{kind}{query}")["items"]
    return found


def _path(kind: str, thing: dict[str, Any]) -> str:
    meta = thing["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/{kind}/{meta['name']}"


def _name(thing: dict[str, Any]) -> str:
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"
