from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xk8s import hookimpl
from xk8s.context import Context
from xk8s.errors import PlanError, PluginError, UsageError
from xk8s.names.request import Request
from xk8s.overlay import Fragment, Layer, Overlay, Take
from xk8s.planning.make_plan import make_plan
from xk8s.sources import Artifact, OwnDirectory
from xk8s.testing import context_of, plan_of
from xk8s_kubernetes import cni, cni_plugins
from xk8s_kubernetes.artifacts import CNI_PLUGINS
from xk8s_kubernetes.settings import KubernetesSettings

SCRIPT = "#!/bin/sh\nexit 0\n"


def context(points: dict[str, tuple[object, ...]] | None = None, **settings: Any) -> Context:
    return context_of("kubernetes", KubernetesSettings(**settings), fragments=points)


def program(path: Path, text: str = SCRIPT, mode: int = 0o755) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def takes(layer: Layer) -> dict[str, Take]:
    return {e.path: e for e in layer.entries if isinstance(e, Take)}


def test_own_plugins_replace_those_of_their_name_and_are_more(tmp_path):
    program(tmp_path / "bridge")
    program(tmp_path / "mine")
    program(tmp_path / "README.md", "no program\n", mode=0o644)
    found = takes(cni_plugins.layer(context(cni_dir=cni_plugins.pin(str(tmp_path)))))
    assert {path.rpartition("/")[2] for path in found} == {*CNI_PLUGINS, "mine"}
    own = OwnDirectory(path=str(tmp_path))
    assert found["/opt/cni/bin/bridge"].artifact.sources[0] == own
    assert found["/opt/cni/bin/mine"].artifact.sources == (own,)


def test_a_directory_with_others_alone_leaves_the_usual_ones_as_they_are(tmp_path):
    program(tmp_path / "mine")
    found = takes(cni_plugins.layer(context(cni_dir=cni_plugins.pin(str(tmp_path)))))
    assert (
        found["/opt/cni/bin/bridge"] == takes(cni_plugins.layer(context()))["/opt/cni/bin/bridge"]
    )


def test_the_plugin_of_a_cni_is_replaced_as_well(tmp_path):
    program(tmp_path / "flannel")
    request = Request(
        overlays=("kubernetes", "containerd", "flannel"),
        sets=(f"kubernetes.cni_dir={tmp_path}",),
        environment={},
    )
    (layer,) = (
        planned.layer for planned in make_plan(request).layers if planned.layer.name == "cni"
    )
    found = takes(layer)["/opt/cni/bin/flannel"].artifact
    assert found.name == "flannel-cni-plugin"
    assert found.sources[0] == OwnDirectory(path=str(tmp_path))


def test_a_changed_own_plugin_is_another_layer_and_the_directory_may_be_relative(
    tmp_path, own_places
):
    (tmp_path / "bin").mkdir()
    digests = []
    for text in (SCRIPT, SCRIPT + "# other\n"):
        program(tmp_path / "bin" / "mine", text)
        request = Request(
            overlays=("kubernetes", "containerd"), sets=("kubernetes.cni_dir=bin",), environment={}
        )
        plan = make_plan(request)
        digests.append({planned.layer.name: planned.digest for planned in plan.layers})
    assert {name for name in digests[0] if digests[0][name] != digests[1][name]} == {"cni"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "does not exist"),
        ({}, "no programs in"),
        ({"README": "text"}, "no programs in"),
        ({"mine": "\x7fELF and no more"}, "mine cannot run in the VMs"),
        ({"a b": SCRIPT}, "'a b' is not the name of a plugin"),
    ],
    ids=["absent", "empty", "text", "broken", "name"],
)
def test_a_bad_directory_is_an_error_before_anything_starts(tmp_path, files, message):
    directory = tmp_path / "bin"
    for name, text in (files or {}).items():
        directory.mkdir(exist_ok=True)
        program(directory / name, text, mode=0o644 if text == "text" else 0o755)
    if files == {}:
        directory.mkdir()
    request = Request(
        overlays=("kubernetes", "containerd"),
        sets=(f"kubernetes.cni_dir={directory}",),
        environment={},
    )
    with pytest.raises(UsageError, match=message) as caught:
        make_plan(request)
    assert "kubernetes.cni_dir" in caught.value.where


def test_a_file_in_place_of_the_directory_is_named(tmp_path):
    with pytest.raises(UsageError, match="is not a directory"):
        cni_plugins.pin(str(program(tmp_path / "bridge")))


def test_a_plugin_that_two_bring_is_an_error_that_names_both():
    mine = Artifact(name="mine", version="1", members=("bridge",), sources=())
    with pytest.raises(PlanError, match="cni-plugins and mine"):
        cni_plugins.layer(context({cni.PLUGINS: (mine,)}))


def chaining(value: object) -> object:
    class Chaining:
        @staticmethod
        @hookimpl
        def xk8s_overlay() -> Overlay:
            return Overlay(summary="a plugin behind the CNI's", requires=("kubernetes",))

        @staticmethod
        @hookimpl
        def xk8s_fragments(ctx: Context) -> list[Fragment]:
            return [Fragment(point=cni.CHAIN, value=value)]

    return Chaining


def test_overlays_plugins_are_behind_the_cnis_in_the_order_of_overlays():
    tuning, own = {"type": "tuning"}, {"type": "own", "mine": {"a": 1}}
    found = cni.chain(context({cni.CHAIN: (tuning, own)}))
    assert [entry["type"] for entry in found] == ["portmap", "tuning", "own"]
    assert found[2] == own
    assert [entry["type"] for entry in cni.chain(context())] == ["portmap"]


def test_two_overlays_that_give_a_plugin_two_configurations_are_an_error_that_names_both():
    overlays = ("containerd", "first", "second")
    first = chaining({"type": "tuning", "mtu": 1400})
    same = {"first": first, "second": chaining({"type": "tuning", "mtu": 1400})}
    plan_of(overlays, plugins=same)
    other = {"first": first, "second": chaining({"type": "tuning", "mtu": 1300})}
    with pytest.raises(PlanError, match="'first' and 'second' both set the CNI plugin 'tuning'"):
        plan_of(overlays, plugins=other)


@pytest.mark.parametrize("value", [{}, {"type": ""}, {"type": "../x"}, {"type": 1}])
def test_a_plugin_without_a_name_is_refused(value):
    with pytest.raises(PluginError, match="its name as 'type'"):
        plan_of(("containerd", "first"), plugins={"first": chaining(value)})
