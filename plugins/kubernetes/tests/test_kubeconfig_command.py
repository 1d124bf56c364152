"""The verb: which file it means, and what it says. No cluster runs: its kubeconfig is a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from xk8s.cli.session import CliSession
from xk8s.errors import StateError, UsageError
from xk8s_kubernetes import command as module
from xk8s_kubernetes.kubeconfig_edit import contexts, current

WORK = "contexts:\n- name: work\n  context: {}\ncurrent-context: work\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory, and the kubeconfig of the cluster "a"."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    own = tmp_path / "state" / "kubeconfig"
    own.parent.mkdir()
    own.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "xk8s-a", "cluster": {}}],
                "users": [{"name": "xk8s-a-admin", "user": {}}],
                "contexts": [
                    {"name": "xk8s-a", "context": {"cluster": "xk8s-a", "user": "xk8s-a-admin"}}
                ],
                "current-context": "xk8s-a",
            }
        )
    )
    monkeypatch.setattr(module, "own_file", lambda _session: own)
    return tmp_path


def invoke(words: list[str], name: str = "a") -> Result:
    """As `xk8s` invokes it: click keeps an option of the first help that it was asked for."""
    session = CliSession(name=name)
    return CliRunner().invoke(
        module.command, words, obj=session, help_option_names=["-h", "--help"]
    )


def run(*words: str) -> Result:
    result = invoke(list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def several(home: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[Path]:
    files = [home / name for name in names]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", *map(str, files), str(files[0])]))
    return files


def test_without_a_variable_it_is_the_one_in_the_home(home: Path) -> None:
    target = home / ".kube" / "config"
    assert run("--merge").stderr == f"{target}: has context xk8s-a now\n"
    assert current(target.read_text()) == "xk8s-a"
    assert run("--merge").stderr == f"{target}: has context xk8s-a already\n"
    assert run("--remove").stderr == (
        f"{target}: has no context xk8s-a any more; previous content: {target}.xk8s-backup\n"
    )
    assert contexts(target.read_text()) == ()
    assert run("--remove").stderr == f"{target}: has no context xk8s-a\n"


def test_of_several_files_it_is_the_one_that_kubectl_would_write_to(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = several(home, monkeypatch, "one", "two", "three")
    assert module.user_files() == [one, two, three]
    assert module.default_file() == three
    two.write_text(WORK)
    assert module.default_file() == two
    run("--merge")
    assert contexts(two.read_text()) == ("work", "xk8s-a")
    assert not one.exists()


def test_it_is_changed_where_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = several(home, monkeypatch, "one", "two")
    one.write_text(WORK)
    run("--merge", str(two))
    said = run("--merge").stderr
    assert f"{two}: has context xk8s-a already" in said
    # kubectl takes the first current context that it finds.
    assert f"{one}: its current-context work comes first; use kubectl --context xk8s-a" in said
    assert one.read_text() == WORK
    assert f"{two}: has no context xk8s-a any more" in run("--remove").stderr
    assert contexts(two.read_text()) == ()


def test_it_is_removed_wherever_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = several(home, monkeypatch, "one", "two")
    for file in files:
        run("--merge", str(file))
    run("--remove")
    assert [contexts(file.read_text()) for file in files] == [(), ()]


def test_a_file_that_is_none_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = several(home, monkeypatch, "one", "two")
    one.write_text("- 1\n")
    two.write_text(WORK)
    for action in ("--merge", "--remove"):
        with pytest.raises(UsageError) as caught:
            run(action)
        assert caught.value.where == str(one)
    assert (one.read_text(), two.read_text()) == ("- 1\n", WORK)


def test_not_to_be_used(home: Path) -> None:
    target = home / "config"
    target.write_text(WORK)
    run("--merge", "--no-use", str(target))
    assert current(target.read_text()) == "work"
    run("--remove", str(target))
    assert target.read_text() == WORK


def test_quiet_says_nothing(home: Path) -> None:
    assert run("--merge", "-q").output == ""


def test_printing_takes_no_file(home: Path) -> None:
    result = invoke(["FILE"])
    assert result.exit_code == 2
    assert "FILE needs --merge or --remove" in result.output
    assert run().stdout == (home / "state" / "kubeconfig").read_text()
    assert run("--path").stdout == f"{home / 'state' / 'kubeconfig'}\n"


def test_a_file_that_others_may_read_is_warned_about(home: Path) -> None:
    target = home / "config"
    target.write_text(WORK)
    target.chmod(0o644)
    for words in (["--merge"], ["--merge", "-q"]):
        said = run(*words, str(target)).stderr
        assert "its mode 0644 gives other users access" in said
        assert f"chmod 600 {target}" in said
    target.chmod(0o600)
    assert "chmod" not in run("--merge", str(target)).stderr


def test_remove_without_a_file_creates_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    target = home / ".kube" / "config"
    assert run("--remove").stderr == f"{target}: has no context xk8s-a\n"
    assert run("--remove", str(home / "other" / "config")).exit_code == 0
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [["--merge", "--remove"], ["--remove", "--merge"], ["--path", "--merge"]]
)
def test_two_actions_at_once_are_refused(home: Path, words: list[str]) -> None:
    before = sorted(home.rglob("*"))
    result = invoke(words)
    assert result.exit_code == 2
    assert "cannot be used together" in result.output
    assert sorted(home.rglob("*")) == before


def test_without_a_cluster(own_places: Path, tmp_path: Path) -> None:
    target = tmp_path / "config"
    result = invoke(["--merge", str(target)], "xk8s")
    assert isinstance(result.exception, StateError)
    assert not target.exists()
    # What `down` left in the file goes without the cluster.
    target.write_text(WORK.replace("work", "xk8s-xk8s"))
    assert invoke(["--remove", str(target)], "xk8s").exit_code == 0
    assert contexts(target.read_text()) == ()
