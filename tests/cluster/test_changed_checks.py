"""A setting that only a check reads: its check runs behind a restore and on apply, though nothing
of the VMs is different, and failing it costs no snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

NAME = ("--name", "tput")
SMALL = ("--nodes", "1", "--routers", "0", "--memory", "control-plane=384")
OVERLAY = """\
import attrs
from xk8s import hookimpl
from xk8s.context import Context
from xk8s.errors import CheckFailed
from xk8s.overlay import Check, Overlay, setting


@attrs.frozen(kw_only=True)
class Settings:
    least: int = setting(1, "what must be reached")


@hookimpl
def xk8s_overlay() -> Overlay:
    return Overlay(summary="a check", requires=("base",), settings=Settings)


@hookimpl
def xk8s_checks(ctx: Context) -> list[Check]:
    least = ctx.settings(Settings).least

    def run(_context: object) -> str:
        if least > 5:
            raise CheckFailed(f"5, not {least}", hint="take another cable")
        return "5"

    return [Check(name="tput", run=run)]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the overlay ``t-tput`` is installed."""
    directory: Path = tmp_path_factory.mktemp("site")
    info = directory / "t_tput-1.dist-info"
    info.mkdir()
    (directory / "t_tput.py").write_text(OVERLAY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: t-tput\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xk8s.v1]\nt-tput = t_tput\n")
    return {"PYTHONPATH": str(directory)}


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s, site: dict[str, str]) -> Iterator[Xk8s]:
    xk8s("artifacts", "debian", "--fetch", timeout=1800)
    xk8s(*NAME, "up", "debian", "t-tput", *SMALL, timeout=900, env=site)
    yield xk8s
    xk8s(*NAME, "down", env=site)


def test_apply_runs_the_check_of_a_setting_that_only_it_reads(
    cluster: Xk8s, site: dict[str, str]
) -> None:
    words = (*NAME, "apply", "--json", "-s")
    assert cluster.json(*words, "t-tput.least=3", env=site)["checks"] == ["tput"]
    assert cluster.json(*words, "t-tput.least=3", env=site)["checks"] == []
    error = cluster(*NAME, "apply", "-s", "t-tput.least=9", code=9, env=site)
    assert "5, not 9" in error
    assert "take another cable" in error


def test_up_restores_and_runs_the_check_and_keeps_the_snapshot(
    cluster: Xk8s, site: dict[str, str]
) -> None:
    up = (*NAME, "up", "debian", "t-tput", *SMALL)
    labels = [
        snapshot["label"] for snapshot in cluster.json("snapshot", "list", "--json", env=site)
    ]
    cluster(*NAME, "down", env=site)
    error = cluster(*up, "-s", "t-tput.least=9", code=9, env=site)
    assert "5, not 9" in error
    assert cluster.json(*NAME, "status", "--json", env=site)["phase"] == "failed"
    left = [snapshot["label"] for snapshot in cluster.json("snapshot", "list", "--json", env=site)]
    assert left == labels, "it is as good as it was"
    cluster(*NAME, "down", env=site)
    done = cluster.json(*up, "-s", "t-tput.least=3", "--json", env=site)
    assert "restore" in done["seconds"]
    assert "checks of changes" in done["seconds"]
    cluster(*NAME, "down", env=site)
    # What passed is remembered with the snapshot.
    done = cluster.json(*up, "-s", "t-tput.least=3", "--json", env=site)
    assert "checks of changes" not in done["seconds"]
