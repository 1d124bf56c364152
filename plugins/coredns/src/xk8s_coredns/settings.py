"""Settings of the overlay ``coredns``."""

from __future__ import annotations

import ipaddress

from attrs import frozen
from xk8s.errors import UsageError
from xk8s.limits import Limit, between, each, release
from xk8s.overlay import setting
from xk8s.own_programs import own_programs

DEFAULT_VERSION = "1.15.0"


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


def _server(text: str) -> None:
    if text not in ("off", "resolv.conf") and not _is_server(text):
        raise ValueError


_SERVER = Limit("off, resolv.conf, or an address such as 192.0.2.1 or [2001:db8::1]:53", _server)


@frozen(kw_only=True)
class CorednsSettings:
    """Settings that users can change. The zone is that of kubernetes.cluster_domain."""

    version: str = setting(DEFAULT_VERSION, "release of CoreDNS", limit=release())
    dir: str = setting(
        "", "directory with your own coredns", env="COREDNSD", pin=own_programs("coredns")
    )
    replicas: int = setting(1, "pods of the Deployment coredns", limit=between(1, 250))
    upstream: tuple[str, ...] = setting(
        ("resolv.conf",),
        "resolver of all other names: resolv.conf (the node's), addresses of servers, or off",
        limit=each(_SERVER),
    )


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
