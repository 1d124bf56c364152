"""The identity of a VM: its name, addresses and routes, as files of the node's own layer."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator

from xk8s.context import Context
from xk8s.overlay import File, Nic, Node, Point

LEARNT_POINT = "debian.learnt"
LEARNT = Point(
    type=str,
    help="A prefix of a network to which nodes get no static route: a routing protocol sets it.",
    example="192.168.2.0/24",
)

_GATEWAY = "192.168.0.250"
"""The bridge of the management network: the route out of the lab, for what has no better route."""

_NAMESPACE = uuid.UUID("786b3873-6465-4269-816e-6d616368696e")


def node_files(ctx: Context, node: Node) -> Iterator[File]:
    """Return all of these files."""
    yield _file("/etc/hostname", f"{node.name}\n")
    # From the node's name alone: a saved node fits clusters of every name.
    yield _file("/etc/machine-id", f"{uuid.uuid5(_NAMESPACE, node.name).hex}\n")
    yield _file("/etc/hosts", _hosts(ctx))
    for nic in node.nics:
        name = f"eth{nic.network}"
        yield _file(f"/etc/systemd/network/10-{name}.link", _link(nic))
        yield _file(f"/etc/systemd/network/20-{name}.network", _network(ctx, node, nic))
    if node.role == "router":
        yield _file("/etc/sysctl.d/60-router.conf", _ROUTER)


_ROUTER = """\
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
# Spread connections, not just addresses, over equal routes.
net.ipv4.fib_multipath_hash_policy = 1
net.ipv6.fib_multipath_hash_policy = 1
"""


def _hosts(ctx: Context) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for node in ctx.nodes:
        nic = node.nic(1)
        if ctx.ipv4:
            lines.append(f"{_bare(nic.ipv4)} {node.name}")
        if ctx.ipv6:
            lines.append(f"{_bare(nic.ipv6)} {node.name}")
    return "\n".join(lines) + "\n"


def _link(nic: Nic) -> str:
    # By driver too: a bridge or VLAN on an interface inherits its MAC.
    return f"[Match]\nMACAddress={nic.mac}\nDriver=virtio_net\n\n[Link]\nName=eth{nic.network}\n"


def _network(ctx: Context, node: Node, nic: Nic) -> str:
    mtu = next(network.mtu for network in ctx.networks if network.index == nic.network)
    sections = [
        f"[Match]\nName=eth{nic.network}\n",
        f"[Link]\nMTUBytes={mtu}\n",
        # An address stays when the carrier goes, as it does on a router: lost links are tried
        # here on purpose.
        "[Network]\n"
        f"Address={nic.ipv4}\n"
        f"Address={nic.ipv6}\n"
        "DHCP=no\n"
        "IPv6AcceptRA=no\n"
        "IPv6DuplicateAddressDetection=0\n"
        "LinkLocalAddressing=ipv6\n"
        "LLMNR=no\n"
        "MulticastDNS=no\n"
        "LLDP=no\n"
        "ConfigureWithoutCarrier=yes\n",
    ]
    if nic.network == 0:
        sections.append(_route("0.0.0.0/0", _GATEWAY, metric=4096))
    sections += [_route(prefix, gateway) for prefix, gateway in _far(ctx, node, nic)]
    return "\n".join(sections)


def _far(ctx: Context, node: Node, nic: Nic) -> Iterator[tuple[str, str]]:
    """Return the networks that this node reaches through the first router on network 1, except for
    those that a routing protocol routes to.
    """
    routers = ctx.by_role("router")
    if nic.network != 1 or not routers:
        return
    near = {own.network for own in node.nics}
    gateway = routers[0].nic(1)
    for network in ctx.networks:
        if network.index not in near:
            for prefix, way in ((network.ipv4, gateway.ipv4), (network.ipv6, gateway.ipv6)):
                if prefix not in ctx.fragments(LEARNT_POINT, str):
                    yield prefix, _bare(way)


def _route(destination: str, gateway: str, *, metric: int | None = None) -> str:
    text = f"[Route]\nDestination={destination}\nGateway={gateway}\n"
    return text + (f"Metric={metric}\n" if metric is not None else "")


def _bare(address: str) -> str:
    return str(ipaddress.ip_interface(address).ip)


def _file(path: str, text: str) -> File:
    return File(path=path, data=text.encode())
