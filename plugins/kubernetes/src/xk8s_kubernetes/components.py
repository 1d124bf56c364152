"""Command lines of the five components, as words in systemd's syntax (``${…}`` comes from
/etc/kubernetes/node.env, which each node has its own version of).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xk8s.context import Context
from xk8s_etcd import CA as ETCD_CA
from xk8s_etcd.unit import quote

from xk8s_kubernetes import addresses
from xk8s_kubernetes.settings import KubernetesSettings

PKI = "/etc/kubernetes/pki"
ETC = "/etc/kubernetes"

UNUSED_ADMISSION = (
    # Policies in CEL: compiling their environment is a large part of the API server's start.
    # Admission webhooks stay, since network functions use them.
    "MutatingAdmissionPolicy",
    "ValidatingAdmissionPolicy",
    # There is no storage.
    "DefaultStorageClass",
    "PersistentVolumeClaimResize",
    "StorageObjectInUseProtection",
)


def apiserver(ctx: Context) -> tuple[str, ...]:
    """Return the command line of kube-apiserver on the control plane."""
    settings = ctx.settings(KubernetesSettings)
    words = [
        "--advertise-address=${NODE_IP}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        f"--client-ca-file={PKI}/ca.crt",
        "--disable-admission-plugins=" + ",".join(UNUSED_ADMISSION),
        "--enable-admission-plugins=NodeRestriction",
        # Fairness between users is for clusters that are full of them.
        "--enable-priority-and-fairness=false",
        f"--etcd-cafile={PKI}/{ETCD_CA}.crt",
        f"--etcd-certfile={PKI}/apiserver-etcd-client.crt",
        f"--etcd-keyfile={PKI}/apiserver-etcd-client.key",
        "--etcd-servers=https://127.0.0.1:2379",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        f"--kubelet-client-certificate={PKI}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={PKI}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
        f"--proxy-client-cert-file={PKI}/front-proxy-client.crt",
        f"--proxy-client-key-file={PKI}/front-proxy-client.key",
        "--requestheader-allowed-names=front-proxy-client",
        f"--requestheader-client-ca-file={PKI}/front-proxy-ca.crt",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--secure-port={addresses.API_PORT}",
        f"--service-account-issuer=https://kubernetes.default.svc.{settings.cluster_domain}",
        f"--service-account-key-file={PKI}/sa.pub",
        f"--service-account-signing-key-file={PKI}/sa.key",
        "--service-cluster-ip-range=" + ",".join(addresses.service_cidrs(ctx)),
        # Otherwise it waits for every watcher, itself included, until systemd kills it (20 s).
        "--shutdown-watch-termination-grace-period=5s",
        f"--tls-cert-file={PKI}/apiserver.crt",
        f"--tls-private-key-file={PKI}/apiserver.key",
    ]
    if settings.runtime_config:
        words.append("--runtime-config=" + _pairs(settings.runtime_config))
    return _complete(ctx, "apiserver", words, settings.apiserver_args)


def controller_manager(ctx: Context) -> tuple[str, ...]:
    """Return the command line of kube-controller-manager on the control plane."""
    settings = ctx.settings(KubernetesSettings)
    words = [
        "--allocate-node-cidrs=false",
        "--bind-address=127.0.0.1",
        f"--cluster-signing-cert-file={PKI}/ca.crt",
        f"--cluster-signing-key-file={PKI}/ca.key",
        "--controllers=" + ",".join(settings.controllers),
        "--enable-dynamic-provisioning=false",
        "--kube-api-burst=200",
        "--kube-api-qps=100",
        f"--kubeconfig={ETC}/controller-manager.conf",
        "--leader-elect=false",
        "--profiling=false",
        f"--root-ca-file={PKI}/ca.crt",
        f"--service-account-private-key-file={PKI}/sa.key",
        "--use-service-account-credentials=true",
    ]
    return _complete(ctx, "controller-manager", words, settings.controller_manager_args)


def scheduler(ctx: Context) -> tuple[str, ...]:
    """Return the command line of kube-scheduler on the control plane."""
    settings = ctx.settings(KubernetesSettings)
    words = [
        "--bind-address=127.0.0.1",
        f"--kubeconfig={ETC}/scheduler.conf",
        "--leader-elect=false",
        "--profiling=false",
    ]
    return _complete(ctx, "scheduler", words, settings.scheduler_args)


def kubelet(ctx: Context) -> tuple[str, ...]:
    """Return the command line of the kubelet on every node; the rest is in its
    configuration file.
    """
    settings = ctx.settings(KubernetesSettings)
    words = [
        f"--config={ETC}/kubelet.yaml",
        "--hostname-override=%H",
        f"--kubeconfig={ETC}/kubelet.conf",
        "--node-ip=${NODE_IPS}",
    ]
    return _complete(ctx, "kubelet", words, settings.kubelet_args, gates=False)


def proxy(ctx: Context) -> tuple[str, ...]:
    """Return the command line of kube-proxy on every node; the rest is in its configuration
    file.
    """
    settings = ctx.settings(KubernetesSettings)
    words = [f"--config={ETC}/proxy.yaml", "--hostname-override=%H"]
    return _complete(ctx, "proxy", words, settings.proxy_args, gates=False)


def _complete(
    ctx: Context, component: str, words: list[str], more: Iterable[str], *, gates: bool = True
) -> tuple[str, ...]:
    """Return ours sorted, then what overlays and the user add: the last of repeated flags
    counts.
    """
    settings = ctx.settings(KubernetesSettings)
    words.append(f"--v={settings.log_level}")
    if gates and (chosen := settings.gates_of(component)):
        values = {name: str(on).lower() for name, on in chosen.items()}
        words.append("--feature-gates=" + _pairs(values))
    added = (*ctx.fragments(f"kubernetes.{component}.args", str), *more)
    return (*sorted(words), *(quote(word) for word in added))


def _pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(values.items()))
