"""Fragments of an overlay that others made, on a real VM of the plain base system; and what becomes
of its cluster when that overlay is denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s.errors import UsageError

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "points")
SMALL = ("--nodes", "1", "--routers", "0", "--memory", "control-plane=384")

PLUGIN = """
from attrs import frozen
from xk8s import hookimpl
from xk8s.overlay import DropIn, Fragment, Overlay, Sysctl, setting

@frozen(kw_only=True)
class Settings:
    backlog: str = setting("4095", "net.core.somaxconn")
    weight: str = setting("77", "CPUWeight of the console's unit")

@hookimpl
def xk8s_overlay():
    return Overlay(summary="tunes", requires=("base",), settings=Settings)

@hookimpl
def xk8s_fragments(ctx):
    mine = ctx.settings(Settings)
    sysctl = Sysctl(key="net.core.somaxconn", value=mine.backlog)
    unit = DropIn(
        unit="xk8s-console.service", section="Service", option="CPUWeight", value=mine.weight
    )
    yield Fragment(point="cluster.sysctl", value=sysctl)
    yield Fragment(point="cluster.sysctl", value=Sysctl(key="net/ipv4/ip_forward", value="1"))
    yield Fragment(point="cluster.dropin", value=unit)
    yield Fragment(point="kubernetes.kubelet.config", value={"maxPods": 5})  # not selected
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A distribution as pip leaves it; the environment that has it."""
    root = tmp_path_factory.mktemp("site")
    (root / "acme_tune.py").write_text(PLUGIN)
    info = root / "acme_tune-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tune\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[xk8s.v1]\nt-tune = acme_tune\n")
    return {"PYTHONPATH": str(root)}


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s, site: dict[str, str]) -> Iterator[Xk8s]:
    xk8s("artifacts", "debian", "--fetch", timeout=1800)
    try:
        xk8s(*NAME, "up", "debian", "t-tune", *SMALL, env=site, timeout=900)
        yield xk8s
    finally:
        xk8s(*NAME, "down")


def run(xk8s: Xk8s, *argv: str) -> str:
    return xk8s(*NAME, "exec", "vm-001", "--", *argv).strip()


def weight(xk8s: Xk8s) -> str:
    return run(xk8s, "systemctl", "show", "xk8s-console.service", "-P", "CPUWeight")


def test_sysctls_and_options_of_units_are_in_force_and_apply_changes_them(
    cluster: Xk8s, site: dict[str, str]
) -> None:
    assert run(cluster, "sysctl", "-n", "net.core.somaxconn") == "4095"
    assert run(cluster, "sysctl", "-n", "net.ipv4.ip_forward") == "1"
    assert weight(cluster) == "77"
    assert run(cluster, "systemctl", "--failed", "--no-legend") == ""

    change = ("-s", "t-tune.backlog=1234", "-s", "t-tune.weight=33")
    cluster(*NAME, "apply", *change, env=site)
    assert run(cluster, "sysctl", "-n", "net.core.somaxconn") == "1234"
    assert weight(cluster) == "33"


def test_a_report_has_distribution_and_version(
    cluster: Xk8s, site: dict[str, str], tmp_path: Path
) -> None:
    import tarfile

    archive = tmp_path / "report.tar.gz"
    cluster(*NAME, "report", "-o", str(archive), "--no-check", env=site)
    with tarfile.open(archive) as tar:
        (page,) = [name for name in tar.getnames() if name.endswith("REPORT.md")]
        file = tar.extractfile(page)
        assert file is not None
        assert re.search(r"- overlays: .*t-tune \(acme-tune 1.5\)", file.read().decode())


def test_a_cluster_whose_overlay_is_denied_now_can_be_looked_at_and_ended(
    cluster: Xk8s, site: dict[str, str]
) -> None:
    denied = {**site, "XK8S_PLUGINS_ALLOW": "xk8s-*"}
    told = cluster(*NAME, "check", env=denied, code=UsageError.exit_code)
    assert "'t-tune' may not be used: acme-tune is not in plugins.allow" in told
    assert "points  running" in cluster("status", "--all", env=denied)
    assert cluster(*NAME, "exec", "vm-001", "--", "hostname", env=denied).strip() == "vm-001"
    cluster(*NAME, "down", env=denied)
