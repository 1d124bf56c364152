"""The way out of the VMs by their management network: to the outside of this machine, or nowhere.

Their frames come out of a bridge in the cluster's namespace. From there a routing table of its own
decides, and one slirp4netns for all VMs makes the connections: as the user who runs it, in the
host's namespace. Addresses that are out of reach are routes that prohibit: part of every kernel,
no other program, and out of reach of root in a guest.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from attrs import frozen

from xk8s.addresses import HOST_LOOPBACK, RESOLVER
from xk8s.errors import HostError
from xk8s.machine.net import relay
from xk8s.machine.net.namespace import Namespace
from xk8s.machine.net.privileges import private_mounts_argv
from xk8s.util import host_programs
from xk8s.util.log import get_logger
from xk8s.util.processes import cluster_environment

log = get_logger(__name__)

Outside = Literal["none", "internet", "all"]

PROGRAM = "slirp4netns"
BRIDGE = "net0"
_UPLINK = "up0"
_NET = "192.168.255.0/24"
_GATEWAY = HOST_LOOPBACK
_OWN = "192.168.255.100/24"
_OPEN = 101
_TABLES: Mapping[Outside, int] = {"internet": 102, "all": 103}
_SECONDS = 15.0
LOG_NAME = "outside.log"

CLOSED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
"""What is not the internet: this machine's loopback and the networks that it may be on, private,
link-local (metadata of clouds), of carriers, multicast and reserved.
"""


@frozen
class Endpoint:
    """A host, by name or address, and a TCP port."""

    host: str
    port: int

    def addresses(self) -> set[str]:
        """Return its IPv4 addresses, as this machine knows them. `HostError` if it does not."""
        try:
            found = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            raise HostError(
                f"{self.host} has no IPv4 address: {error.strerror}",
                where="cluster.proxy",
                hint="write the proxy's address in place of its name",
            ) from error
        return {str(address[0]) for *_, address in found}


def lead(
    namespace: Namespace,
    runtime_dir: Path,
    outside: Outside,
    lab: Iterable[str] = (),
    *,
    proxy: Endpoint | None = None,
    again: bool = False,
) -> None:
    """Let the VMs reach the outside as far as that, in a namespace with its bridge. ``lab`` are
    prefixes that are never outside; a ``proxy`` is reached in any case. ``again``: in place of what
    was so far.

    `HostError` if this machine lacks the program for it, or does not let it run.
    """
    if again:
        # Nothing passes meanwhile; and with its program all connections end.
        rules = (f"rule del pref {pref}" for pref in _preferences(namespace))
        namespace.configure(batch=_lines(f"rule add pref 1 iif {BRIDGE} prohibit", *rules))
        namespace.hold()
    up = outside != "none" or proxy is not None
    if up:
        loopback = outside == "all" or (proxy is not None and proxy.host == HOST_LOOPBACK)
        _uplink(namespace, runtime_dir, loopback=loopback, again=again)
    namespace.configure(
        sysctls={
            f"net/ipv6/conf/{BRIDGE}/disable_ipv6": "1",
            f"net/ipv4/conf/{BRIDGE}/forwarding": "1",
            # What is out of reach says so each time, so that nothing waits for it.
            "net/ipv4/icmp_ratelimit": "0",
            **(_UPLINK_SYSCTLS if up else {}),
        },
        batch=_lines(*_routing(outside, lab, proxy)),
    )
    if outside == "internet":
        # Connections to an address of this machine's would be made like any others.
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as host:
            host.bind((0, relay.ADDRESSES_V4))
            namespace.prohibit_addresses(host, table=_TABLES["internet"])
    if again:
        namespace.configure(batch=_lines("rule del pref 1"))


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _preferences(namespace: Namespace) -> list[int]:
    """Return those of the rules in force."""
    rules = json.loads(namespace.run(["ip", "-j", "rule", "list"]).stdout)
    return [rule["priority"] for rule in rules if rule.get("iif") == BRIDGE]


_UPLINK_SYSCTLS = {
    f"net/ipv6/conf/{_UPLINK}/disable_ipv6": "1",
    f"net/ipv4/conf/{_UPLINK}/forwarding": "1",
    # The uplink asks for the VMs' addresses as if they were on its own network.
    f"net/ipv4/conf/{_UPLINK}/proxy_arp": "1",
}


def _routing(outside: Outside, lab: Iterable[str], proxy: Endpoint | None) -> Iterator[str]:
    """Lines for ``ip -batch``."""
    default = f"route add default via {_GATEWAY} dev {_UPLINK} table"
    open_ = f"rule add pref {{}} iif {BRIDGE} to {{}} ipproto {{}} dport {{}} lookup {_OPEN}"
    if outside != "none" or proxy is not None:
        yield f"address add {_OWN} dev {_UPLINK}"
        yield f"link set {_UPLINK} up"
        yield f"{default} {_OPEN}"
    if proxy is not None:
        for number, address in enumerate(sorted(proxy.addresses())):
            yield open_.format(12 + number, address, "tcp", proxy.port)
    if outside != "none":
        table = _TABLES[outside]
        yield f"{default} {table}"
        # Of the resolver its port alone: any other one would be one of the host's own resolver,
        # which is often this machine's loopback.
        yield open_.format(10, RESOLVER, "udp", 53)
        yield open_.format(11, RESOLVER, "tcp", 53)
        closed = CLOSED if outside == "internet" else ()
        for prefix in (*closed, *(prefix for prefix in lab if ":" not in prefix)):
            yield f"route replace prohibit {prefix} table {table}"
        yield f"rule add pref 100 iif {BRIDGE} lookup {table}"
    yield f"rule add pref 101 iif {BRIDGE} prohibit"


def _uplink(namespace: Namespace, runtime_dir: Path, *, loopback: bool, again: bool) -> None:
    """Start the program; it ends with the holder."""
    program = host_programs.find(PROGRAM)
    if program is None:
        raise HostError(
            f"the program {PROGRAM} is missing: through it VMs reach the internet",
            hint=f"{host_programs.hint(PROGRAM)}; or without: -s cluster.outside=none",
        )
    ready, told = os.pipe()
    ended, alive = os.pipe()
    argv = [program, f"--cidr={_NET}", f"--ready-fd={told}", f"--exit-fd={ended}",
            "--enable-seccomp"]  # fmt: skip
    if os.geteuid() == 0:
        # Of root's privileges it keeps one. A user has none; and without a root in the namespace,
        # which tcpdump takes ill (`unshare_argv`), it cannot mount what it would see.
        argv.append("--enable-sandbox")
        # It makes its root private, but not what is mounted below: where mounts are shared, as
        # systemd has them, its end of /dev/shm would be that of this machine's.
        argv = [*private_mounts_argv(), *argv]
    if not loopback:
        argv.append("--disable-host-loopback")
    argv += [str(namespace.ping()["pid"]), _UPLINK]
    said = runtime_dir / LOG_NAME
    try:
        if again:
            namespace.wait_gone(_UPLINK, _SECONDS)
        with said.open("wb") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=cluster_environment(runtime_dir),
                cwd="/",
                pass_fds=(told, ended),
                start_new_session=True,
            )
        namespace.hold(alive)
        os.close(told)
        told = -1
        with log.timed("outside_started", argv=argv, pid=child.pid):
            if not select.select([ready], [], [], _SECONDS)[0] or not os.read(ready, 1):
                child.kill()
                child.wait()
                raise HostError(
                    f"{PROGRAM} does not work on this machine",
                    where=str(said),
                    hint="VMs without a way out do not need it: -s cluster.outside=none",
                    log=said.read_text(errors="replace"),
                )
    finally:
        for descriptor in (ready, told, ended, alive):
            with contextlib.suppress(OSError):
                os.close(descriptor)
