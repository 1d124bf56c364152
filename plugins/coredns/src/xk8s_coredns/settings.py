"""Settings of the overlay ``coredns``."""

from __future__ import annotations

import ipaddress

from attrs import frozen
from xk8s.errors import UsageError
from xk8s.overlay import setting

DEFAULT_VERSION = "1.15.0"


@frozen(kw_only=True)
class CorednsSettings:
    """Settings that users can change. The zone is that of kubernetes.cluster_domain."""

    version: str = setting(DEFAULT_VERSION, "release of CoreDNS")
    dir: str = setting("", "directory with your own coredns", env="COREDNSD")
    replicas: int = setting(1, "pods of the Deployment coredns")
    upstream: tuple[str, ...] = setting(
        ("resolv.conf",),
        "resolver of all other names: resolv.conf (the node's), addresses of servers, or off",
    )

    def __attrs_post_init__(self) -> None:
        """Raise ValueError for a release without a name."""
        if not self.version.strip():
            raise ValueError("version is empty")


def forward_to(upstream: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments of CoreDNS' plugin forward; none if other names should not be resolved.

    Raises `UsageError` for anything but "off", "resolv.conf" or addresses with or without
    a port.

    >>> forward_to(("192.0.2.1", "[2001:db8::1]:5353")), forward_to(("off",))
    (('192.0.2.1', '[2001:db8::1]:5353'), ())
    """
    if upstream in ((), ("off",)):
        return ()
    if upstream == ("resolv.conf",):
        return ("/etc/resolv.conf",)
    for text in upstream:
        if not _is_server(text):
            raise UsageError(
                f"coredns.upstream: {text!r} is not an address",
                hint="off, resolv.conf, or addresses such as 192.0.2.1,[2001:db8::1]:53",
            )
    return upstream


def _is_server(text: str) -> bool:
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not port or (port.isdigit() and 0 < int(port) < 65536)
