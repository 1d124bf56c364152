"""The fixtures of the test kit that need no VM, and how it is switched on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from xk8s.errors import PlanError
from xk8s.names.registry import Registry
from xk8s.overlay import File, KernelNeeds, Layer, Overlay
from xk8s.testing import MakePlan, live, plans, plugin

ONE = Overlay(summary="one", requires=("base",))


def one() -> object:
    return plugin(
        overlay=lambda: ONE,
        kernel=lambda ctx: KernelNeeds(config=("SOMETHING",), modules=("rare",), load=("rare",)),
        layers=lambda ctx: [Layer(name="t-one", entries=(File(path="/etc/t", data=b"1"),))],
    )


def test_plan_needs_nothing_but_the_overlay(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where nothing but the core is installed: the base is the kit's."""
    monkeypatch.setattr("xk8s.names.registry.available", lambda _rules: ())
    monkeypatch.setenv("PATH", str(tmp_path))  # no QEMU, no mkfs
    made = plan("t-one", "cluster.nodes=3", plugins={"t-one": one()})
    assert made.ctx.overlays == (plans.BASE, "t-one")
    assert [node.node.name for node in made.nodes] == ["vm-001", "vm-002", "vm-003", "vm-201"]
    assert b"rare\n" in [file.data for file in made.nodes[0].files]


def test_where_a_base_is_installed_it_is_that_one(plan: MakePlan) -> None:
    assert plan("debian").ctx.overlays == ("debian",)
    with pytest.raises(PlanError, match="CONFIG_SOMETHING"):
        plan("t-one", plugins={"t-one": one()})
    assert plans.BASE not in {offer.name for offer in Registry(plans.with_base()).offers}


def test_neither_environment_nor_files_change_a_plan(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "xk8s.toml").write_text("[cluster]\nnodes = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XK8S_CLUSTER_ROUTERS", "3")
    assert len(plan("debian", "cluster.testers=0").nodes) == 3


def test_a_pytest_of_somebody_else_imports_nothing_of_xk8s(tmp_path: Path) -> None:
    """It is no plugin that pytest finds by itself, in whatever environment xk8s is."""
    (tmp_path / "test_theirs.py").write_text(
        "import sys\ndef test() -> None:\n"
        "    assert not [name for name in sys.modules if name.split('.')[0] == 'xk8s']\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_module_that_does_not_say_what_to_start_is_told_how(tmp_path: Path) -> None:
    (tmp_path / "test_live.py").write_text("def test(cluster): pass\n")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "xk8s.testing", str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pytestmark = pytest.mark.cluster(" in done.stdout


@pytest.mark.parametrize(
    ("overlays", "worker", "name"),
    [
        (("kubernetes", "my-overlay"), "", "test-my-overlay"),
        (("./Work_Files/",), "", "test-work-files"),
        (("my-overlay",), "gw1", "test-my-overlay-gw1"),
        (("a" * 40,), "", "test-" + "a" * 27),
    ],
)
def test_names_of_test_clusters_are_names_of_clusters(
    overlays: tuple[str, ...], worker: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    assert live.cluster_name(overlays) == name


def test_a_cluster_that_somebody_has_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live, "list_clusters", lambda: ("test-debian",))
    with pytest.raises(AssertionError, match="xk8s down --name test-debian"):
        next(live.live_cluster(("debian",), {}, tmp_path))
