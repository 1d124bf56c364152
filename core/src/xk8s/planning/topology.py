"""Nodes and networks of a cluster from its settings: names, numbers, addresses, sizes.

The address plan is that of xcluster, so that its users feel at home: see docs/reference/network.md.
"""

from __future__ import annotations

from xk8s.addresses import host_ipv6
from xk8s.errors import UsageError, nearest
from xk8s.names.core_settings import FIRST_ROUTER, FIRST_TESTER, ClusterSettings
from xk8s.overlay import ALL_ROLES, NODE_ROLES, Network, Nic, Node, Role

_MEMORY: dict[Role, int] = {"control-plane": 2048, "worker": 1024, "router": 256, "tester": 256}
_CPUS: dict[Role, int] = {"control-plane": 2, "worker": 1, "router": 1, "tester": 1}


def networks(settings: ClusterSettings) -> tuple[Network, ...]:
    """Return network 0 (management), 1 (all VMs) and 2 (routers, testers, and nodes on request)."""
    management = Network(index=0, ipv4="192.168.0.0/24", ipv6="fec0::/64")
    return (
        management,
        *(
            Network(
                index=index,
                ipv4=f"192.168.{index}.0/24",
                ipv6=f"{host_ipv6(index, 0)}/120",
                mtu=settings.mtu,
            )
            for index in (1, 2)
        ),
    )


def nodes(settings: ClusterSettings) -> tuple[Node, ...]:
    """Return all VMs by number; `UsageError` for impossible counts or sizes."""
    of_nodes = _node_networks(settings)
    numbers: list[tuple[int, Role]] = [(1, "control-plane")]
    numbers += [(number, "worker") for number in range(2, settings.nodes + 1)]
    numbers += [(FIRST_ROUTER + index, "router") for index in range(settings.routers)]
    numbers += [(FIRST_TESTER + index, "tester") for index in range(settings.testers)]
    known = {*ALL_ROLES, *(f"vm-{number:03}" for number, _ in numbers)}
    for table, field in ((settings.memory, "memory"), (settings.cpus, "cpus")):
        for key in table:
            if key not in known:
                raise UsageError(
                    f"cluster.{field}: {key!r} is neither a role nor a node of this cluster",
                    hint=f"{nearest(key, known)}roles are {', '.join(sorted(ALL_ROLES))}",
                )
    return tuple(
        _node(number, role, settings, (0, *of_nodes) if role in NODE_ROLES else (0, 1, 2))
        for number, role in numbers
    )


def _node(number: int, role: Role, settings: ClusterSettings, networks: tuple[int, ...]) -> Node:
    name = f"vm-{number:03}"
    memory = settings.memory.get(name, settings.memory.get(role, _MEMORY[role]))
    cpus = settings.cpus.get(name, settings.cpus.get(role, _CPUS[role]))
    return Node(
        name=name,
        number=number,
        role=role,
        cpus=cpus,
        memory=memory,
        nics=tuple(_nic(index, number) for index in networks),
    )


def _nic(network: int, number: int) -> Nic:
    # Nobody answers to it: the way out has IPv4 alone.
    ipv6 = f"fec0::{number:x}/64" if network == 0 else f"{host_ipv6(network, number)}/120"
    return Nic(
        network=network,
        # 02 marks a locally administered address; 78:6b:38 is "xk8".
        mac=f"02:78:6b:38:{network:02x}:{number:02x}",
        ipv4=f"192.168.{network}.{number}/24",
        ipv6=ipv6,
    )


def _node_networks(settings: ClusterSettings) -> tuple[int, ...]:
    wanted = tuple(sorted(settings.node_networks))
    if wanted not in ((1,), (1, 2)):
        given = ",".join(map(str, settings.node_networks))
        raise UsageError(
            f"cluster.node_networks={given}: nodes can be on network 1, or on 1 and 2",
            hint="write 1 or 1,2",
        )
    return wanted
