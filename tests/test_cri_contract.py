"""The capability ``cri`` (docs/howto/cri.md): what each runtime provides, and that a third one
needs no change in `kubernetes` or `images`.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from xk8s.overlay import Entry, File, Symlink
from xk8s.planning.plan import Plan
from xk8s.sources import Recipe
from xk8s.testing.plans import plan_of
from xk8s_images import CONTAINER_NEEDS, Loader, cri, image_artifacts, image_ref, pause_image

from tests.doc_blocks import blocks

ROOT = Path(__file__).parents[1]


def third() -> object:
    """The made-up runtime of the how-to, as another distribution would bring it."""
    (example,) = (
        block.body
        for block in blocks("docs/howto/cri.md")
        if block.language == "python" and "xk8s_overlay" in block.body
    )
    module = types.ModuleType("third")
    exec(compile(example, "docs/howto/cri.md", "exec"), vars(module))
    return module


def planned(runtime: str) -> Plan:
    plugins = {"third": third()} if runtime == "third" else {}
    return plan_of(("debian", "kubernetes", runtime), plugins=plugins)


def entries(plan: Plan, runtime: str) -> dict[str, Entry]:
    return {
        entry.path: entry
        for layer in plan.layers
        if layer.overlay == runtime
        for entry in layer.layer.entries
    }


@pytest.fixture(scope="module", params=["containerd", "crio", "third"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plan(runtime: str) -> Plan:
    return planned(runtime)


def test_kubernetes_takes_it_for_its_runtime_and_no_other(plan: Plan, runtime: str) -> None:
    assert {"containerd", "crio", "third"} & set(plan.ctx.overlays) == {runtime}
    kubelet = next(
        entry.data
        for layer in plan.layers
        for entry in layer.layer.entries
        if isinstance(entry, File) and b"kind: KubeletConfiguration" in entry.data
    )
    assert yaml.safe_load(kubelet)["containerRuntimeEndpoint"] == f"unix://{cri.SOCKET}"


def test_its_socket_and_unit_are_where_everybody_looks(plan: Plan, runtime: str) -> None:
    found = entries(plan, runtime)
    alias = found[f"/etc/systemd/system/{cri.UNIT}"]
    assert isinstance(alias, Symlink)
    assert alias.target in found, "the alias leads to a unit that the overlay brings"
    links = [
        entry.data.decode()
        for path, entry in found.items()
        if path.startswith("/usr/lib/tmpfiles.d/") and isinstance(entry, File)
    ]
    assert any(re.search(rf"^L\+ {cri.SOCKET} - - - - /run/\S+$", text, re.M) for text in links)


def test_the_units_it_enables_are_its_own(plan: Plan, runtime: str) -> None:
    found = entries(plan, runtime)
    enabled = [
        entry
        for path, entry in found.items()
        if re.search(r"\.(wants|requires)/", path) and isinstance(entry, Symlink)
    ]
    assert len(enabled) >= 2
    assert all(entry.target in found for entry in enabled)


def test_its_store_has_every_image_and_is_replaced_by_loading(plan: Plan, runtime: str) -> None:
    store = next(
        layer.layer for layer in plan.layers if layer.layer.name == cri.store_layer(runtime)
    )
    assert store.applied_by_hook
    assert store.image is not None
    assert store.image.member == cri.STORE_MEMBER
    (recipe,) = store.image.artifact.sources
    assert isinstance(recipe, Recipe)
    wanted = {image_ref(image) for image in image_artifacts(plan.ctx)}
    assert set(recipe.params["images"].values()) == wanted
    assert pause_image().ref in wanted


def test_it_loads_images_into_running_nodes(plan: Plan, runtime: str) -> None:
    (loader,) = plan.ctx.all_fragments["images.loader"]
    assert loader.overlay == runtime
    assert isinstance(loader.value, Loader)


def test_it_asks_for_what_containers_need_of_the_kernel(plan: Plan, runtime: str) -> None:
    assert plan.registry is not None
    needs = plan.registry.hooks.kernel(runtime, plan.ctx)
    assert needs is not None
    assert set(needs.config) >= set(CONTAINER_NEEDS.config)


# --- who may name a runtime ---------------------------------------------------------------

NAMED_ON_PURPOSE = {
    # Which runtime a plan takes that names none.
    ("kubernetes/src/xk8s_kubernetes/overlay.py", "crio"),
    ("kubernetes/src/xk8s_kubernetes/overlay.py", "containerd"),
    # A line of a log, as it was seen.
    (
        "kubernetes/src/xk8s_kubernetes/faults/components.py",
        "failed to create containerd task: expected cgroupsPath to be of format "
        '\\"slice:prefix:name\\" for systemd cgroups, got \\"/kubepods/besteffort/pod1\\" instead',
    ),
    # An annotation of OCI layouts that many tools write.
    ("images/src/xk8s_images/layout.py", "io.containerd.image.name"),
}


def test_kubernetes_and_images_name_no_runtime() -> None:
    found = {
        (str(path.relative_to(ROOT / "plugins")), text)
        for plugin_name in ("kubernetes", "images")
        for path in sorted((ROOT / "plugins" / plugin_name / "src").rglob("*"))
        # The pins list Go modules that Kubernetes is built of.
        if path.is_file() and path.suffix != ".pyc" and "pins" not in path.parts
        for text in _strings(path)
        if re.search(r"containerd|cri-?o\b", text, re.IGNORECASE)
    }
    assert found == NAMED_ON_PURPOSE


def _strings(path: Path) -> Iterator[str]:
    """The strings of a module without its docstrings; any other file's lines."""
    if path.suffix != ".py":
        yield from path.read_text(errors="replace").splitlines()
        return
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value
