from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from xk8s.artifact_keys import artifact_key
from xk8s.context import Context
from xk8s.overlay import File, Fragment, Symlink, Take
from xk8s.testing import context_of
from xk8s_crio import overlay
from xk8s_crio.artifacts import STORE_IN_NODE, crio_artifact
from xk8s_crio.artifacts import unavailable as unavailable_at
from xk8s_crio.settings import CrioSettings
from xk8s_images import PAUSE_REF, pause_image

pytestmark = pytest.mark.usefixtures("own_places")


def context(**settings: Any) -> Context:
    pause = {"images.image": (pause_image(),)}
    return context_of("crio", CrioSettings(**settings), fragments=pause)


def entries(ctx: Context, kind: type) -> list:
    return [e for layer in overlay.xk8s_layers(ctx) for e in layer.entries if isinstance(e, kind)]


def unavailable(settings: CrioSettings) -> str | None:
    return unavailable_at(settings, online=False)


def own(tmp_path: Path, *names: str) -> str:
    directory = tmp_path / "own"
    directory.mkdir()
    for name in names:
        (directory / name).write_bytes(b"\x7fELF")
        (directory / name).chmod(0o755)
    return str(directory)


def test_without_programs_at_hand_the_reason_says_what_to_give():
    assert "XK8S_CRIO_DIR" in (unavailable(CrioSettings()) or "")


def test_a_directory_must_have_what_nothing_else_gives(tmp_path):
    directory = own(tmp_path, "crio")
    assert unavailable(CrioSettings(dir=directory)) == f"{directory} has no pinns"
    (Path(directory) / "pinns").touch()
    assert unavailable(CrioSettings(dir=directory)) is None


def test_a_release_that_was_fetched_before_is_at_hand(tmp_path):
    settings = CrioSettings()
    entry = tmp_path / "cache/artifacts" / artifact_key(crio_artifact(settings))
    entry.mkdir(parents=True)
    (entry / "provenance.json").write_text("{}")
    assert unavailable(settings) is None
    assert unavailable(CrioSettings(version="1.35.0")) is not None


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
def test_the_configuration_says_what_the_settings_say(runtime, driver):
    ctx = context(runtime=runtime, cgroup_driver=driver)
    files = {file.path: file.data for file in entries(ctx, File)}
    crio = tomllib.loads(files["/etc/crio/crio.conf.d/50-xk8s.conf"].decode())["crio"]
    assert crio["image"]["pause_image"] == PAUSE_REF
    assert crio["runtime"]["cgroup_manager"] == driver
    chosen = crio["runtime"]["runtimes"][crio["runtime"]["default_runtime"]]
    assert chosen["runtime_path"] == f"/usr/bin/{runtime}"
    storage = tomllib.loads(files["/etc/containers/storage.conf"].decode())["storage"]
    assert storage["options"]["additionalimagestores"] == [STORE_IN_NODE]
    json.loads(files["/etc/containers/policy.json"])
    assert all(link.target in files for link in entries(ctx, Symlink))


def test_crictl_comes_along_when_the_directory_or_the_release_has_it(tmp_path):
    def programs(**settings: object) -> set[str]:
        return {take.path for take in entries(context(**settings), Take)}

    needed = {"/usr/bin/crio", "/usr/bin/pinns", "/usr/bin/conmon", "/usr/bin/crun"}
    directory = own(tmp_path, "crio", "pinns")
    assert programs(dir=directory) == needed
    (Path(directory) / "crictl").touch()
    assert programs(dir=directory) == {*needed, "/usr/bin/crictl"}
    # The release has it in any case.
    assert programs() == {*needed, "/usr/bin/crictl"}
    assert "/usr/bin/runc" in programs(runtime="runc")


def test_fragments_of_others_are_a_drop_in_after_ours():
    ctx = context()
    assert "/etc/crio/crio.conf.d/60-overlays.conf" not in {e.path for e in entries(ctx, File)}
    parts = ({"crio": {"runtime": {"pids_limit": 4096}}}, {"crio": {"image": {"x": ["a", "b"]}}})
    given = tuple(Fragment(point="crio.config", value=part) for part in parts)
    ctx = evolve(ctx, all_fragments={**ctx.all_fragments, "crio.config": given})
    (file,) = [e for e in entries(ctx, File) if e.path.endswith("60-overlays.conf")]
    assert tomllib.loads(file.data.decode()) == {
        "crio": {"runtime": {"pids_limit": 4096}, "image": {"x": ["a", "b"]}}
    }
