"""Distribution of keys: each node gets just what it needs; the authorities' keys go only to the
controller manager, which signs CertificateSigningRequests.
"""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.context import ClusterAccess, Context
from xk8s.overlay import NODE_ROLES, File, Node
from xk8s.pki import Keys, Pair
from xk8s_etcd import CA as ETCD_CA

from xk8s_kubernetes import addresses
from xk8s_kubernetes.components import ETC, PKI
from xk8s_kubernetes.kubeconfig import kubeconfig
from xk8s_kubernetes.settings import KubernetesSettings

CA = "ca"
FRONT_PROXY_CA = "front-proxy-ca"
MASTERS = "system:masters"
LOCAL_API = f"https://127.0.0.1:{addresses.API_PORT}"


def node_secrets(ctx: Context, node: Node, keys: Keys) -> Iterator[File]:
    """Return all keys, certificates and kubeconfigs of one VM; routers and testers get none."""
    if node.role not in NODE_ROLES:
        return
    yield _public(f"{PKI}/ca.crt", keys.ca(CA).cert)
    serving = keys.cert(
        CA,
        f"kubelet-serving-{node.name}",
        common_name=f"system:node:{node.name}",
        organizations=["system:nodes"],
        sans=[node.name, *_ips(node)],
        server=True,
        client=False,
    )
    yield from _pair(f"{PKI}/kubelet", serving)
    kubelet = _config(
        ctx, node, keys, f"kubelet-{node.name}", f"system:node:{node.name}", "system:nodes"
    )
    yield _secret(f"{ETC}/kubelet.conf", kubelet)
    yield _secret(
        f"{ETC}/kube-proxy.conf", _config(ctx, node, keys, "kube-proxy", "system:kube-proxy")
    )
    if node.role == "control-plane":
        yield from _control_plane(ctx, node, keys)
    else:
        # kubectl on a worker may do what its kubelet may: it has no other identity.
        yield _secret(f"{ETC}/root.conf", kubelet)


def host_kubeconfig(access: ClusterAccess, keys: Keys) -> bytes:
    """Return the kubeconfig for kubectl on the host, for the forwarded port."""
    host, port = access.forward(addresses.API_FORWARD)
    name = f"xk8s-{access.name}"
    return kubeconfig(
        name=name,
        server=f"https://{addresses.bracketed(host)}:{port}",
        ca=keys.ca(CA).cert,
        user=f"{name}-admin",
        pair=admin(keys),
    )


def agent_kubeconfig(ctx: Context, node: Node, keys: Keys, *, name: str, user: str) -> bytes:
    """Return the kubeconfig for a program of an overlay on that node: without a group, so it may do
    what ``user`` is bound to. ``name`` is that of the certificate among the cluster's keys.
    """
    return _config(ctx, node, keys, name, user)


def admin(keys: Keys) -> Pair:
    """Return the certificate that may do everything."""
    return keys.cert(CA, "admin", common_name="xk8s-admin", organizations=[MASTERS])


def _control_plane(ctx: Context, node: Node, keys: Keys) -> Iterator[File]:
    yield _secret(f"{PKI}/ca.key", keys.ca(CA).key)
    serving = keys.cert(
        CA,
        "apiserver",
        common_name="kube-apiserver",
        sans=_apiserver_names(ctx, node),
        server=True,
        client=False,
    )
    yield from _pair(f"{PKI}/apiserver", serving)
    # What exec, logs and port-forward ask of a kubelet is allowed to masters by kubelet's
    # webhook, with no binding that would have to be made first.
    yield from _pair(
        f"{PKI}/apiserver-kubelet-client",
        keys.cert(
            CA,
            "apiserver-kubelet-client",
            common_name="kube-apiserver-kubelet-client",
            organizations=[MASTERS],
        ),
    )
    yield _public(f"{PKI}/{ETCD_CA}.crt", keys.ca(ETCD_CA).cert)
    yield from _pair(
        f"{PKI}/apiserver-etcd-client",
        keys.cert(ETCD_CA, "apiserver-etcd-client", common_name="kube-apiserver"),
    )
    yield _public(f"{PKI}/{FRONT_PROXY_CA}.crt", keys.ca(FRONT_PROXY_CA).cert)
    yield from _pair(
        f"{PKI}/front-proxy-client",
        keys.cert(FRONT_PROXY_CA, "front-proxy-client", common_name="front-proxy-client"),
    )
    tokens = keys.signing_key("sa")
    yield _public(f"{PKI}/sa.pub", tokens.cert)
    yield _secret(f"{PKI}/sa.key", tokens.key)
    for component in ("controller-manager", "scheduler"):
        data = _config(ctx, node, keys, f"kube-{component}", f"system:kube-{component}")
        yield _secret(f"{ETC}/{component}.conf", data)
    yield _secret(f"{ETC}/root.conf", _config(ctx, node, keys, "admin", "xk8s-admin", MASTERS))


def _config(
    ctx: Context, node: Node, keys: Keys, name: str, user: str, *organizations: str
) -> bytes:
    own_api = node.role == "control-plane"
    return kubeconfig(
        name=f"xk8s-{ctx.cluster}",
        server=LOCAL_API if own_api else addresses.api_url(ctx),
        ca=keys.ca(CA).cert,
        user=user,
        pair=keys.cert(CA, name, common_name=user, organizations=organizations),
    )


def _apiserver_names(ctx: Context, node: Node) -> list[str]:
    """Return names of both IP families, whichever the cluster has: keys outlive a change of it."""
    settings = ctx.settings(KubernetesSettings)
    service = "kubernetes.default.svc"
    return [
        "kubernetes",
        "kubernetes.default",
        service,
        f"{service}.{settings.cluster_domain}",
        "localhost",
        node.name,
        "127.0.0.1",
        "::1",
        addresses.first_address(settings.service_cidr_ipv4),
        addresses.first_address(settings.service_cidr_ipv6),
        *_ips(node),
    ]


def _ips(node: Node) -> list[str]:
    return [text.split("/")[0] for nic in node.nics for text in (nic.ipv4, nic.ipv6)]


def _pair(stem: str, pair: Pair) -> tuple[File, File]:
    return _public(f"{stem}.crt", pair.cert), _secret(f"{stem}.key", pair.key)


def _public(path: str, data: bytes) -> File:
    return File(path=path, data=data, mode=0o644)


def _secret(path: str, data: bytes) -> File:
    return File(path=path, data=data, mode=0o600)
