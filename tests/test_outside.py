"""What guests reach outside of the cluster, tried with real servers in namespaces of our own."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from xk8s.machine.net.outside import CLOSED

from tests import small_world

ROOT = Path(__file__).parent.parent


def found(before: str, outside: str, *proxy: str) -> dict[str, Any]:
    if (why := small_world.lacks()) is not None:
        pytest.skip(why)
    done = subprocess.run(
        small_world.argv("-m", "tests.outside_script", before, outside, *proxy),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    # With every value: the host's own ways to its guests.
    assert result["forwarded"]
    assert result["served"]
    return result


@pytest.mark.parametrize("before", ["internet", "all", "none"])
def test_internet_is_public_addresses_and_names_and_nothing_of_this_machine(before: str) -> None:
    result = found(before, "internet")
    assert set(result["reached"]) == {small_world.INTERNET}
    assert result["resolved"]


@pytest.mark.parametrize("before", ["none", "internet"])
def test_none_is_nothing(before: str) -> None:
    result = found(before, "none")
    assert result["reached"] == []
    assert not result["resolved"]


def test_all_is_what_this_machine_reaches() -> None:
    result = found("all", "all")
    assert set(result["reached"]) == small_world.ALL
    assert result["resolved"]


@pytest.mark.parametrize(
    "proxy", [small_world.LOOPBACK, small_world.LAN, small_world.HOST_LAN, small_world.INTERNET]
)
@pytest.mark.parametrize("outside", ["none", "internet"])
def test_a_proxy_is_reached_wherever_it_is_and_nothing_else_of_its_place(
    outside: str, proxy: str
) -> None:
    result = found(outside, outside, proxy)
    more = {small_world.INTERNET} if outside == "internet" else set()
    assert set(result["reached"]) == {proxy} | more


def as_user() -> list[str]:
    """Return what runs a program as an ordinary user, who may open /dev/net/tun as on a desktop."""
    if os.geteuid() != 0:
        return []
    device = "/mnt/tun && chmod 666 /mnt/tun && mount --bind /mnt/tun /dev/net/tun"
    script = (
        f"mount -t tmpfs none /mnt && cp -a /dev/net/tun {device} && exec setpriv --reuid 65534 "
    )
    return ["unshare", "-m", "sh", "-c", script + '--regid 65534 --clear-groups "$@"', "sh"]


def test_an_ordinary_user_has_a_way_out_without_any_privilege() -> None:
    if (why := small_world.lacks()) is not None:
        pytest.skip(why)
    command = [*as_user(), sys.executable, "-m"]
    place: dict[str, Any] = {
        "cwd": ROOT,
        "env": {**os.environ, "HOME": "/tmp"},
        "capture_output": True,
    }
    if subprocess.run([*command, "xk8s.machine.net.outside"], **place).returncode != 0:
        pytest.skip("other users cannot read this checkout, or its Python")
    done = subprocess.run([*command, "tests.outside_user_script"], text=True, **place)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["uid"] != 0
    for value in ("internet", "all"):
        assert int(found[value]["uplink"]["CapEff"], 16) == 0
        assert found[value]["uplink"]["Seccomp"] == "2"


def test_mounts_of_root_stay_where_they_are_shared() -> None:
    """As systemd has them. The way out leaves all behind that was mounted: only for itself."""
    if (why := small_world.lacks()) is not None or os.geteuid() != 0:
        pytest.skip(why or "a user's way out has no mounts of its own")
    script = 'mount -t tmpfs none /dev/shm && exec "$@"'
    command = ["unshare", "-m", "--propagation", "shared", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.outside_user_script"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["uid"] == 0
    assert found["mounted"]


def test_what_is_closed_is_all_that_is_not_the_internet() -> None:
    closed = [ipaddress.ip_network(prefix) for prefix in CLOSED]
    edges = {0, 2**32 - 1}
    for network in closed:
        first, last = int(network[0]), int(network[-1])
        edges |= {first, last, max(first - 1, 0), min(last + 1, 2**32 - 1)}
    for number in edges:
        address = ipaddress.IPv4Address(number)
        private = any(address in network for network in closed)
        # 192.88.99.0/24 was a relay to IPv6; single anycast addresses of 192.0.0.0/24 count as
        # global for Python.
        odd = address in ipaddress.ip_network("192.88.99.0/24")
        assert private == (not address.is_global or address.is_multicast or odd), address
    named = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
             "100.64.0.0/10", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")  # fmt: skip
    for network in named:
        assert any(ipaddress.ip_network(network).subnet_of(other) for other in closed)
