"""What is looked at on every node when something is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.overlay import Observation

JOURNAL_LINES = 10000

_COMMANDS = {
    "network/addresses": "ip -s -d address",
    "network/routes": "ip route show table all",
    "network/routes-ipv6": "ip -6 route show table all",
    "network/rules": "ip rule",
    "network/rules-ipv6": "ip -6 rule",
    "network/neighbours": "ip neighbour",
    "network/nftables": "nft list ruleset",
    "network/iptables": "iptables-save",
    "network/ip6tables": "ip6tables-save",
    "network/conntrack": "conntrack -S",
    "network/sockets": "ss -tulnp",
    "network/resolver": "cat /etc/resolv.conf",
    "system/services": "systemctl list-units --type=service --all --no-pager",
    "system/failed": "systemctl --failed --no-pager",
    "system/processes": "ps axfww -o pid,ppid,stat,etime,time,rss,args",
    "system/memory": "free -m",
    "system/file-systems": "df -h",
    "system/mounts": "cat /proc/mounts",
    "system/modules": "lsmod",
    "system/kernel": "cat /proc/version /proc/cmdline",
    "system/date": "date --iso-8601=seconds",
}


def observations() -> Iterator[Observation]:
    """Network, processes, file systems, and the journal with the kernel's messages."""
    for name, command in _COMMANDS.items():
        yield Observation(name=name, argv=tuple(command.split()), timeout=60)
    yield Observation(
        name="journal",
        argv=("journalctl", "--no-pager", "--quiet", "--output=short-iso", "-n",
              str(JOURNAL_LINES)),
        timeout=120,
        searched=True,
    )  # fmt: skip
