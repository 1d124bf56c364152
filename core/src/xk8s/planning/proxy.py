"""The HTTP proxy of the VMs: what it is called in a guest, and what is not asked through it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from attrs import frozen

from xk8s.addresses import HOST_LOOPBACK
from xk8s.context import Context
from xk8s.errors import UsageError
from xk8s.names.core_settings import ClusterSettings
from xk8s.overlay import File, Point

NO_PROXY_POINT = "cluster.no_proxy"
PROXY_FILE = "/etc/systemd/system.conf.d/70-xk8s-proxy.conf"

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


def _sets(value: str) -> Mapping[str, str]:
    if not value or not value.isprintable() or set(value) & set(', "%'):
        raise ValueError(f"{value!r} is not a prefix, name or .domain")
    return {}


NO_PROXY = Point(
    type=str,
    help="A prefix, a name or a domain (.svc) of the cluster: VMs never ask a proxy for it "
    "(cluster.proxy). The networks and the prefixes of cluster.route are included already.",
    example="10.96.0.0/16",
    sets=_sets,
)


@frozen(kw_only=True)
class Proxy:
    """A proxy as this machine knows it. ``url`` is what guests call it."""

    host: str
    port: int
    url: str

    @property
    def on_loopback(self) -> bool:
        """Whether it is on this machine's 127.0.0.1, which guests know by another address."""
        return self.host in _LOOPBACK


def proxy_of(settings: ClusterSettings) -> Proxy | None:
    """Return the proxy of the settings, or None. `UsageError` if guests could not use it."""
    text = settings.proxy
    if not text:
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    odd = not text.isprintable() or set(text) & set(' "\\')
    if host is None or parts.scheme not in _PORTS or odd:
        raise UsageError(
            f"cluster.proxy={text!r} is not the URL of a proxy", hint="http://HOST:PORT"
        )
    named = host not in _LOOPBACK and not _is_ipv4(host)
    if named and settings.outside == "none":
        raise UsageError(
            f"cluster.proxy={text!r}: without an outside guests cannot look {host} up",
            hint="write its IPv4 address, or cluster.outside=internet",
        )
    port = port or _PORTS[parts.scheme]
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    known = HOST_LOOPBACK if host in _LOOPBACK else host
    return Proxy(host=host, port=port, url=f"{parts.scheme}://{user}{known}:{port}")


def proxy_files(ctx: Context, settings: ClusterSettings, routes: tuple[str, ...]) -> Iterator[File]:
    """Return the file that tells all services of a guest."""
    proxy = proxy_of(settings)
    if proxy is None:
        return
    spared = dict.fromkeys(
        (
            "localhost", "127.0.0.0/8", "::1",
            *(prefix for network in ctx.networks for prefix in (network.ipv4, network.ipv6)),
            *routes,
            *(node.name for node in ctx.nodes),
            *ctx.fragments(NO_PROXY_POINT, str),
            *settings.no_proxy,
        )
    )  # fmt: skip
    values = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url, "NO_PROXY": ",".join(spared)}
    words = [
        f'"{key}={value.replace("%", "%%")}"'
        for name, value in values.items()
        for key in (name, name.lower())
    ]
    text = f"[Manager]\nDefaultEnvironment={' '.join(words)}\n"
    yield File(path=PROXY_FILE, data=text.encode())


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
