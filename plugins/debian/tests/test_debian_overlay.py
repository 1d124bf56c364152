from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s import apt, subordinate_ids
from xk8s.context import Context, IpFamily
from xk8s.errors import ArtifactError, BuildError, HostError, UsageError
from xk8s.overlay import File, Fragment, KernelFacts, Symlink
from xk8s.testing import context_of
from xk8s_debian import base, cpio, mirror, overlay
from xk8s_debian.initramfs import APPLETS, init_script
from xk8s_debian.kernel import (
    facts_from_json,
    facts_to_json,
    missing_facts,
    parse_facts,
    recorded_facts,
)
from xk8s_debian.mirror import security_archives
from xk8s_debian.power_off import power_off
from xk8s_debian.settings import DebianSettings


def context(family: IpFamily = "dual", packages: tuple[str, ...] = (), routers: int = 1) -> Context:
    own = DebianSettings(packages=packages)
    return context_of("debian", own, family=family, routers=routers, testers=1, mtu=9000)


def files(ctx: Context, name: str) -> dict[str, str]:
    node = next(node for node in ctx.nodes if node.name == name)
    return {file.path: file.data.decode() for file in overlay.xk8s_node_files(ctx, node)}


def test_worker_files() -> None:
    found = files(context(), "vm-002")
    assert found["/etc/hostname"] == "vm-002\n"
    assert found["/etc/systemd/network/10-eth1.link"] == (
        "[Match]\nMACAddress=02:78:6b:38:01:02\nDriver=virtio_net\n\n[Link]\nName=eth1\n"
    )
    assert found["/etc/systemd/network/20-eth1.network"] == (
        "[Match]\nName=eth1\n\n"
        "[Link]\nMTUBytes=9000\n\n"
        "[Network]\n"
        "Address=192.168.1.2/24\n"
        "Address=1000::1:c0a8:102/120\n"
        "DHCP=no\n"
        "IPv6AcceptRA=no\n"
        "IPv6DuplicateAddressDetection=0\n"
        "LinkLocalAddressing=ipv6\n"
        "LLMNR=no\n"
        "MulticastDNS=no\n"
        "LLDP=no\n"
        "ConfigureWithoutCarrier=yes\n\n"
        "[Route]\nDestination=192.168.2.0/24\nGateway=192.168.1.201\n\n"
        "[Route]\nDestination=1000::2:c0a8:200/120\nGateway=1000::1:c0a8:1c9\n"
    )
    eth0 = found["/etc/systemd/network/20-eth0.network"]
    assert eth0.endswith("[Route]\nDestination=0.0.0.0/0\nGateway=192.168.0.250\nMetric=4096\n")
    assert "/etc/systemd/network/20-eth2.network" not in found
    assert "/etc/sysctl.d/60-router.conf" not in found


def test_router_forwards_and_needs_no_route_to_its_own_networks() -> None:
    found = files(context(), "vm-201")
    assert "net.ipv4.ip_forward = 1\n" in found["/etc/sysctl.d/60-router.conf"]
    assert "net.ipv6.conf.all.forwarding = 1\n" in found["/etc/sysctl.d/60-router.conf"]
    assert "[Route]" not in found["/etc/systemd/network/20-eth1.network"]
    assert "[Route]" not in found["/etc/systemd/network/20-eth2.network"]


def test_no_router_no_route() -> None:
    found = files(context(routers=0), "vm-001")
    assert "[Route]" not in found["/etc/systemd/network/20-eth1.network"]


@pytest.mark.parametrize(
    ("family", "there", "not_there"),
    [
        ("ipv4", "192.168.1.2 vm-002", "1000::1:c0a8:102 vm-002"),
        ("ipv6", "1000::1:c0a8:102 vm-002", "192.168.1.2 vm-002"),
    ],
)
def test_hosts_are_of_the_clusters_family(family: str, there: str, not_there: str) -> None:
    hosts = files(context(family), "vm-001")["/etc/hosts"].splitlines()
    assert there in hosts
    assert not_there not in hosts


def test_machine_ids_differ_per_node_and_stay() -> None:
    ctx = context()
    ids = {files(ctx, node.name)["/etc/machine-id"] for node in ctx.nodes}
    assert len(ids) == len(ctx.nodes)
    assert all(len(machine_id) == 33 and int(machine_id, 16) for machine_id in ids)
    assert files(ctx, "vm-001") == files(context(), "vm-001")


def test_layers_base_modules_config() -> None:
    layers = list(overlay.xk8s_layers(context()))
    assert [layer.name for layer in layers] == ["debian-base", "debian-modules", "debian-config"]
    assert [layer.image.member for layer in layers if layer.image] == [
        "base.erofs",
        "modules.erofs",
    ]


def test_systemd_ends_the_machine_by_our_program_and_not_by_the_kernels_way_down() -> None:
    """The kernel waits for ever for the devices with the layers: a guest that rebooted was gone."""
    config = list(overlay.xk8s_layers(context()))[2]
    there = {entry.path: entry for entry in config.entries}
    link = there["/usr/lib/systemd/system-shutdown/xk8s"]
    assert isinstance(link, Symlink)
    script, program = there[link.target], there["/usr/lib/xk8s/power-off"]
    assert isinstance(script, File)
    assert isinstance(program, File)
    assert (script.mode, program.mode) == (0o755, 0o755)
    assert program.path.encode() in script.data


def test_the_program_that_switches_off_asks_for_the_port_first(tmp_path: Path) -> None:
    """Without the right to it the program fails with exit code 1, not by a signal."""
    program = tmp_path / "power-off"
    program.write_bytes(power_off().data)
    program.chmod(0o755)
    # As root it would work: on the machine that runs the test.
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    user = ["--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    tmp_path.chmod(0o755)
    done = subprocess.run([*unprivileged, *user, program], check=False)
    assert done.returncode == 1


def units() -> Iterator[File]:
    config = list(overlay.xk8s_layers(context()))[2]
    for entry in config.entries:
        if isinstance(entry, File) and entry.path.startswith("/etc/systemd/"):
            yield entry


@pytest.mark.parametrize("unit", list(units()), ids=lambda unit: unit.path)
def test_units_are_sections_of_keys(unit: File) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(unit.data.decode())
    assert parser.sections()


def test_no_enabled_unit_is_masked_and_every_own_one_exists() -> None:
    config = list(overlay.xk8s_layers(context()))[2]
    links = {entry.path: entry.target for entry in config.entries if isinstance(entry, Symlink)}
    written = {entry.path for entry in config.entries if isinstance(entry, File)}
    enabled = {target for path, target in links.items() if ".wants/" in path}
    assert len(enabled) >= 6
    for target in enabled:
        name = target.rpartition("/")[2]
        assert links.get(f"/etc/systemd/system/{name}") != "/dev/null"
        assert target in written or target.startswith("/usr/lib/systemd/system/systemd-")


def test_packages_of_settings_and_fragments_make_another_base() -> None:
    plain = overlay.base_artifact(context())
    more = context(packages=("frr",))
    fragment = Fragment(point="debian.packages", value="bird2")
    ctx = Context(
        cluster="test",
        ip_family="dual",
        overlays=("debian",),
        networks=more.networks,
        nodes=more.nodes,
        all_settings=more.all_settings,
        all_fragments={"debian.packages": (fragment,)},
    )
    packages = overlay.base_artifact(ctx).sources[0].params["packages"]  # type: ignore[union-attr]
    assert {"frr", "bird2", "systemd"} <= set(packages)
    assert packages == sorted(packages)
    assert overlay.base_artifact(ctx) != plain
    assert overlay.base_artifact(context()) == plain


@pytest.mark.parametrize(
    "bad", [{"packages": ("--option",)}, {"kernel": "a b"}, {"suite": "../x"}, {"packages": ("",)}]
)
def test_bad_names_are_usage_errors(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        DebianSettings(**bad)  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox here")
def test_init_is_a_busybox_script() -> None:
    done = subprocess.run(
        ["busybox", "sh", "-n"], input=init_script().encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_init_calls_only_what_the_archive_links() -> None:
    words = set(init_script().replace("(", " ").split())
    for applet in (
        "mount", "insmod", "mkdir", "mknod", "ln", "sleep", "poweroff", "switch_root",
        "rmmod", "date",
    ):  # fmt: skip
        assert applet in words
        assert applet in APPLETS


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio here")
def test_cpio_is_read_by_cpio() -> None:
    image = cpio.archive(
        [
            cpio.directory("dev"),
            cpio.character_device("dev/console", 5, 1),
            cpio.regular("init", b"#!/bin/sh\n", 0o755),
            cpio.symlink("sh", "busybox"),
        ]
    )
    done = subprocess.run(
        ["cpio", "-itv", "--quiet", "--numeric-uid-gid"],
        input=image,
        capture_output=True,
        check=True,
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [
        ("drwxr-xr-x", "dev"),
        ("crw-------", "dev/console"),
        ("-rwxr-xr-x", "init"),
        ("lrwxrwxrwx", "busybox"),
    ]
    assert all("1970" in line for line in lines)


def test_facts_are_read_from_a_kernels_files() -> None:
    facts = parse_facts(
        release="6.12",
        config="CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_D=7\n",
        modules_dep="kernel/net/nf-x.ko: kernel/net/y.ko\nkernel/net/y.ko:\n",
        modules_builtin="kernel/drivers/virtio_pci.ko\n",
    )
    assert facts == KernelFacts(
        release="6.12",
        config={"A": "y", "C": "m"},
        modules=frozenset({"nf_x", "y"}),
        builtin=frozenset({"virtio_pci"}),
    )
    assert facts_from_json(facts_to_json(facts)) == facts


def test_recorded_facts_have_what_kubernetes_networking_needs() -> None:
    facts = recorded_facts()
    wanted = {
        "ip_vs", "ip_vs_rr", "nf_conntrack", "dummy", "br_netfilter", "vxlan", "xt_addrtype",
        "overlay", "erofs", "virtio_blk", "virtio_net", "virtio_rng",
    }  # fmt: skip
    assert wanted <= facts.modules | facts.builtin
    assert facts.config["VIRTIO_CONSOLE"] == facts.config["VIRTIO_PCI"] == "y"
    assert {"KEYS", "CGROUPS", "NF_TABLES", "NETFILTER_XT_MATCH_COMMENT"} <= facts.config.keys()


def test_missing_facts_names_symbols_and_modules() -> None:
    recorded = KernelFacts(
        release="1", config={"A": "y", "B": "m"}, modules=frozenset({"m", "n"}), builtin=frozenset()
    )
    # A module that has become built in is still there.
    actual = KernelFacts(
        release="2", config={"B": "y"}, modules=frozenset(), builtin=frozenset({"m"})
    )
    assert missing_facts(recorded, actual) == ("CONFIG_A", "module n")
    assert missing_facts(recorded, recorded) == ()


def test_security_archive_of_the_host_is_found() -> None:
    uris = "http://m.test/debian/\nhttp://o.test/tools\nhttp://m.test/debian-security/\n"
    assert security_archives(uris * 2) == ["http://m.test/debian-security/"]
    assert security_archives("http://m.test/debian/\n") == []


def test_a_chosen_mirror_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XK8S_DEBIAN_MIRROR", "http://127.0.0.1:1/debian")
    monkeypatch.setattr(apt, "KEYRING", Path("/dev/null"))
    assert mirror.sources_list("trixie") == [
        "deb [signed-by=/dev/null] http://127.0.0.1:1/debian trixie main",
        "deb [signed-by=/dev/null] http://127.0.0.1:1/debian trixie-updates main",
    ]


def test_an_ordinary_user_without_subordinate_ids_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subordinate_ids, "login", lambda: "nobody-knows")
    with pytest.raises(HostError, match="nobody-knows") as caught:
        base.build_base(tmp_path, suite="trixie", packages=[], kernel="k", sources=[], run=_never)
    assert "usermod --add-subuids" in caught.value.hint


def test_a_failed_mmdebstrap_leaves_its_last_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(argv: object, *, env: object) -> str:
        raise BuildError("mmdebstrap failed", log="E: Unable to locate package nonsense")

    monkeypatch.setattr(base, "_mode", lambda: "root")
    monkeypatch.setattr(base, "_check_programs", lambda: None)
    with pytest.raises(ArtifactError) as caught:
        base.build_base(tmp_path, suite="trixie", packages=[], kernel="k", sources=[], run=run)
    assert "nonsense" in caught.value.log
    assert list(tmp_path.iterdir()) == []


def _never(argv: object, *, env: object) -> str:
    raise AssertionError("nothing must be run")
