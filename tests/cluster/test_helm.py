"""Helm against a real API server without nodes: all but what needs pods that run (that is in
test_kubernetes.py). It is also what builds Helm while no VM needs the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from xk8s_kubernetes.kubeconfig_edit import merged
from xk8s_kubernetes.kubeconfig_file import edit

from tests.cluster.api_server import api_server
from tests.cluster.helm_tool import CHART, VERSION, Helm

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    root = tmp_path_factory.mktemp("helm")
    users = root / "config"
    users.write_text("# mine\ncontexts:\n- name: work\n  context: {}\ncurrent-context: work\n")
    one = Helm(home=root / "home", kubeconfig=users, context="t")
    assert one("version", "--template", "{{.Version}}") == VERSION  # built before etcd waits
    with api_server(root) as server:
        own = yaml.safe_load(server.config.read_text())
        edit(users, lambda old: merged(old, own, use=False))
        one.home.mkdir()
        yield one


def test_the_chart_is_in_order(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))
    made = [
        document["kind"] for document in yaml.safe_load_all(helm("template", "one", str(CHART)))
    ]
    assert sorted(made) == ["Deployment", "Pod", "Service"]


def test_a_release_whose_name_is_no_text_to_yaml(helm: Helm) -> None:
    helm("install", "y", str(CHART))
    helm("uninstall", "y")


def test_a_release_from_install_to_uninstall(helm: Helm) -> None:
    helm("install", "one", str(CHART))
    (release,) = helm.json("list")
    assert (release["name"], release["status"], release["revision"]) == ("one", "deployed", "1")
    helm("upgrade", "one", str(CHART), "--set", "replicas=3")
    assert "replicas: 3" in helm("get", "manifest", "one")
    helm("rollback", "one", "1")
    assert [release["revision"] for release in helm.json("history", "one")] == [1, 2, 3]
    assert "replicas: 2" in helm("get", "manifest", "one")
    helm("uninstall", "one")
    assert helm.json("list") == []
