from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from xk8s.cluster.state.request_file import read_request, write_inputs
from xk8s.context import Context
from xk8s.errors import UsageError
from xk8s.names.request import Request
from xk8s.overlay import File, Fragment, Symlink, Take
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.testing import context_of
from xk8s_containerd import overlay
from xk8s_containerd.artifacts import containerd_artifact, runtime_artifact, store_artifact
from xk8s_containerd.settings import ContainerdSettings
from xk8s_images import PAUSE_REF, Image, pause_image
from xk8s_images.layout import Member, layer_tar, write_layout


def context(**settings: Any) -> Context:
    images = (pause_image(), Image(ref="x/a:1", entrypoint=("/a",)))
    own = ContainerdSettings(**settings)
    return context_of("containerd", own, family="dual", fragments={"images.image": images})


def files(ctx: Context) -> dict[str, bytes]:
    return {
        entry.path: entry.data
        for layer in overlay.xk8s_layers(ctx)
        for entry in layer.entries
        if isinstance(entry, File)
    }


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
def test_the_configuration_is_toml_and_says_what_the_settings_say(runtime, driver):
    ctx = context(runtime=runtime, cgroup_driver=driver)
    plugins = tomllib.loads(files(ctx)["/etc/containerd/config.toml"].decode())["plugins"]
    images = plugins["io.containerd.cri.v1.images"]
    assert images["pinned_images"]["sandbox"] == PAUSE_REF
    cri = plugins["io.containerd.cri.v1.runtime"]["containerd"]
    options = cri["runtimes"][cri["default_runtime_name"]]["options"]
    assert options == {"BinaryName": f"/usr/bin/{runtime}", "SystemdCgroup": driver == "systemd"}
    taken = {
        entry.path
        for layer in overlay.xk8s_layers(ctx)
        for entry in layer.entries
        if isinstance(entry, Take)
    }
    assert f"/usr/bin/{runtime}" in taken


def test_enabled_units_are_there():
    ctx = context()
    written = files(ctx)
    links = [
        entry
        for layer in overlay.xk8s_layers(ctx)
        for entry in layer.entries
        if isinstance(entry, Symlink)
    ]
    assert any(link.path == "/etc/systemd/system/cri.service" for link in links)
    assert all(link.target in written for link in links)


def test_an_own_directory_comes_first_and_only_the_pinned_version_is_built():
    def kinds(**settings: object) -> list[str]:
        artifact = containerd_artifact(ContainerdSettings(**settings))
        return [type(source).__name__ for source in artifact.sources]

    assert kinds() == ["Release", "GoModule"]
    assert kinds(dir="/x") == ["OwnDirectory", "Release", "GoModule"]
    assert kinds(version="v2.2.0") == ["Release"]


def test_the_store_depends_on_every_image():
    (recipe,) = store_artifact(context()).sources
    assert sorted(recipe.params["images"].values()) == ["x/a:1", PAUSE_REF]
    assert {artifact.name for artifact in recipe.inputs} == {"containerd", *recipe.params["images"]}


def test_an_image_of_the_users_changes_one_layer_and_the_record_keeps_it(
    own_places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def plan(text: str) -> Plan:
        shutil.rmtree(tmp_path / "image", ignore_errors=True)
        layer = layer_tar([Member(path="text", data=text.encode())])
        write_layout(tmp_path / "image", ref="x/a:1", layer=layer)
        sets = ("images.refs=oci:image",)
        return make_plan(Request(overlays=("containerd",), sets=sets, environment={}))

    def layers(plan: Plan) -> dict[str, str]:
        return {planned.layer.name: planned.digest for planned in plan.layers}

    first, same, other = plan("one"), plan("one"), plan("two")
    assert layers(first) == layers(same)
    changed = {name for name, digest in layers(other).items() if digest != layers(first)[name]}
    assert changed == {"containerd-store"}

    write_inputs(other)
    shutil.rmtree(tmp_path / "image")
    monkeypatch.chdir("/")
    assert make_plan(read_request(other.name)).digest == other.digest
    with pytest.raises(UsageError, match="does not exist"):
        make_plan(Request(overlays=("containerd",), sets=("images.refs=oci:image",)))


def test_a_runtime_of_your_own_comes_before_debians():
    settings = ContainerdSettings(runtime="runc", runtime_dir="/x")
    kinds = [type(source).__name__ for source in runtime_artifact(settings).sources]
    assert kinds == ["OwnDirectory", "DebPackage"]


def test_fragments_of_others_are_merged_into_the_configuration():
    ctx = context()
    plain = files(ctx)["/etc/containerd/config.toml"]
    part = {"oom_score": -5, "plugins": {"io.containerd.cri.v1.runtime": {"enable_cdi": False}}}
    given = (Fragment(point="containerd.config", value=part),)
    ctx = evolve(ctx, all_fragments={**ctx.all_fragments, "containerd.config": given})
    made = tomllib.loads(files(ctx)["/etc/containerd/config.toml"].decode())
    wanted = tomllib.loads(plain.decode())
    wanted["oom_score"] = -5
    wanted["plugins"]["io.containerd.cri.v1.runtime"]["enable_cdi"] = False
    assert made == wanted
