"""The real kubectl and `xk8s kubeconfig` on one file, with a real API server behind it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from xk8s_kubernetes.kubeconfig_edit import contexts, current, merged, without
from xk8s_kubernetes.kubeconfig_file import edit, locked

from tests.cluster.api_server import Server, api_server
from tests.cluster.kubectl import Kubectl
from tests.cluster.programs import kubernetes

pytestmark = pytest.mark.cluster

USERS = """\
# mine
apiVersion: v1
clusters:
- cluster:
    server: https://work.invalid
  name: work
contexts:
- context:
    cluster: work
    user: me
  name: work
current-context: work
kind: Config
users:
- name: me
  user: {}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with api_server(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def file(server: Server, tmp_path: Path) -> Path:
    """The user's file with the cluster "t" in it."""
    path = tmp_path / "config"
    path.write_text(USERS)
    edit(path, lambda old: merged(old, yaml.safe_load(server.config.read_text())))
    return path


def kubectl(file: Path, *words: str, code: int = 0) -> str:
    return Kubectl(file)(*words, code=code)


def test_kubectl_reads_and_uses_what_was_merged(file: Path) -> None:
    names = kubectl(file, "config", "get-contexts", "-o", "name").split()
    assert sorted(names) == ["t", "work"]
    assert kubectl(file, "config", "current-context").strip() == "t"
    assert kubectl(file, "--context", "t", "get", "--raw", "/readyz") == "ok"
    assert "kubernetes" in kubectl(file, "get", "services")
    edit(file, lambda old: without(old, "t"))
    assert file.read_text() == USERS
    assert kubectl(file, "config", "current-context").strip() == "work"


def test_what_kubectl_made_of_the_file_is_understood(file: Path, server: Server) -> None:
    kubectl(file, "config", "set-context", "--current", "--namespace=kube-system")
    kubectl(file, "config", "set-credentials", "other", "--token=x")
    # It sorts and drops comments, and keeps what we noted in the context.
    assert "# mine" not in file.read_text()
    edit(file, lambda old: merged(old, yaml.safe_load(server.config.read_text())))
    assert "namespace: kube-system" in kubectl(file, "config", "view", "--minify")
    edit(file, lambda old: without(old, "t"))
    assert contexts(file.read_text()) == ("work",)
    assert current(file.read_text()) == "work"
    assert [user["name"] for user in yaml.safe_load(file.read_text())["users"]] == ["me", "other"]


def test_neither_writes_while_the_other_does(file: Path) -> None:
    before = file.read_text()
    with locked(file):
        said = kubectl(file, "config", "use-context", "work", code=1)
    assert "file exists" in said
    assert file.read_text() == before
    kubectl(file, "config", "use-context", "work")
    assert current(file.read_text()) == "work"


def test_both_at_once_lose_nothing_of_kubectl(file: Path, server: Server) -> None:
    """One after the other of kubectl: it reads the file before it locks it, so two at once lose
    contexts of each other, and one of them may lose what we wrote in between.
    """
    own = yaml.safe_load(server.config.read_text())
    names = [f"k{number}" for number in range(6)]
    ours: list[str] = []

    def by_kubectl() -> None:
        for name in names:
            for _ in range(200):  # it does not wait for a lock, so we try again
                done = subprocess.run(
                    [kubernetes() / "kubectl", f"--kubeconfig={file}", "config", "set-context",
                     name, "--cluster=work"],
                    capture_output=True, text=True, timeout=120, check=False,
                )  # fmt: skip
                if done.returncode == 0:
                    break
                assert "file exists" in done.stderr
            else:
                pytest.fail(f"kubectl never got the lock for {name}")

    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(by_kubectl)
        while not theirs.done():
            name = f"x{len(ours)}"
            entry = {"name": name, "context": {"cluster": "t", "user": "a"}}
            new = {**own, "contexts": [entry], "current-context": name}
            edit(file, lambda old, new=new: merged(old, new))
            ours.append(name)
            time.sleep(0.05)
        theirs.result()
    found = set(contexts(file.read_text()))
    assert {"work", "t", *names} <= found
    assert len(ours) > 1, "nothing was written at the same time"


def test_our_own_edits_at_once_lose_nothing(file: Path, server: Server) -> None:
    own = yaml.safe_load(server.config.read_text())

    def add(name: str) -> None:
        entry = {"name": name, "context": {"cluster": "t", "user": "a"}}
        new = {**own, "contexts": [entry], "current-context": name}
        edit(file, lambda old: merged(old, new))

    names = [f"x{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, names))
    assert sorted(contexts(file.read_text())) == sorted(["work", "t", *names])
