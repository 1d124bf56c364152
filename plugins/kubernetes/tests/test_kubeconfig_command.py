from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from xk8s.errors import StateError, UsageError
from xk8s_kubernetes import command as module
from xk8s_kubernetes.command import command, edit, load, merged, without


def config(name: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}"}}],
        "users": [{"name": f"{name}-admin", "user": {"token": name}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
        "current-context": name,
        **more,
    }


USERS = config("work", preferences={"colors": True}, extensions=[{"name": "x"}])


def test_merge_keeps_what_is_there_and_remove_takes_only_its_own() -> None:
    both = merged(USERS, config("xk8s-a"))
    assert [one["name"] for one in both["clusters"]] == ["work", "xk8s-a"]
    assert both["current-context"] == "xk8s-a"
    assert both["preferences"] == {"colors": True}
    back = without(both, "xk8s-a")
    assert back == {**USERS, "current-context": ""}
    assert merged(USERS, config("xk8s-a"), use=False)["current-context"] == "work"


def test_merge_twice_is_once() -> None:
    once = merged(USERS, config("xk8s-a"))
    assert merged(once, config("xk8s-a")) == once


def test_remove_leaves_what_others_use() -> None:
    shared = merged(USERS, config("xk8s-a"))
    shared["contexts"].append(
        {"name": "mine", "context": {"cluster": "xk8s-a", "user": "work-admin"}}
    )
    rest = without(shared, "xk8s-a")
    assert [one["name"] for one in rest["clusters"]] == ["work", "xk8s-a"]
    assert [one["name"] for one in rest["users"]] == ["work-admin"]


def test_edit_is_private_backed_up_and_goes_through_links(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("# mine\n" + yaml.safe_dump(USERS))
    real.chmod(0o640)
    before = real.read_text()
    link = tmp_path / "config"
    link.symlink_to(real)
    assert edit(link, lambda old: merged(old, config("xk8s-a")))
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert (tmp_path / "real.xk8s-backup").read_text() == before
    assert load(link) == merged(USERS, config("xk8s-a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config", "real", "real.xk8s-backup",
    ]  # fmt: skip
    assert not edit(link, lambda old: merged(old, config("xk8s-a")))


def test_a_new_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "kube" / "config"
    assert edit(path, lambda old: merged(old, config("xk8s-a")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["- a\n", "a: [", "clusters: 3\n", "contexts: [1]\n", "\x00"])
def test_what_is_no_kubeconfig_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UsageError, match="left as it is"):
        edit(path, lambda old: merged(old, config("xk8s-a")))
    assert path.read_text() == text
    assert [one.name for one in tmp_path.iterdir()] == ["config"]


def test_a_failing_change_leaves_the_file_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(USERS))
    with pytest.raises(yaml.YAMLError):
        edit(path, lambda old: {**old, "x": object()})
    assert load(path) == USERS
    assert not (tmp_path / "config.lock").exists()


def test_kubectls_lock_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    path = tmp_path / "config"
    (tmp_path / "config.lock").touch()
    with pytest.raises(StateError, match="locked"):
        edit(path, lambda old: merged(old, config("xk8s-a")))
    assert not path.exists()
    assert (tmp_path / "config.lock").exists()


def test_command_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XK8S_STATE", str(tmp_path))
    target = tmp_path / "config"
    result = CliRunner().invoke(command, ["--merge", str(target)])
    assert isinstance(result.exception, StateError)
    assert not target.exists()
