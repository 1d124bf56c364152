"""Our own overlays keep the contract that everybody's must keep: the same kit looks at them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from xk8s.testing import assert_conforms

ROOT = Path(__file__).resolve().parent.parent
OVERLAYS = sorted(
    name
    for path in ROOT.glob("plugins/*/pyproject.toml")
    for name in tomllib.loads(path.read_text())["project"]
    .get("entry-points", {})
    .get("xk8s.v1", ())
)


REFUSED = {("kube-router", "ipv6"), ("kube-router", "dual")}
"""What a plan refuses, with a reason: see the overlay's own tests."""

NEEDED = {"multinet": ("cluster.node_networks=1,2",)}
"""Settings without which a plan refuses an overlay."""


@pytest.mark.parametrize(
    ("overlay", "family"),
    [
        (overlay, family)
        for overlay in OVERLAYS
        for family in ("ipv4", "ipv6", "dual")
        if (overlay, family) not in REFUSED
    ],
)
def test_each_overlay_conforms(overlay: str, family: str) -> None:
    assert_conforms(overlay, sets=(f"cluster.ip_family={family}", *NEEDED.get(overlay, ())))


def test_all_of_them_were_looked_at() -> None:
    assert {"debian", "kubernetes", "containerd", "crio", "coredns"} <= set(OVERLAYS)
