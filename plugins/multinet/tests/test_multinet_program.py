"""The real program with delegates that note how they are called: those of this file are scripts,
the real one (macvlan) is in tests/cluster/test_multinet.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from xk8s.build.artifacts.store import Store
from xk8s.progress import Silent
from xk8s_multinet.checks import ANNOTATION
from xk8s_multinet.overlay import PLUGIN, chained, program

pytestmark = pytest.mark.skipif(
    shutil.which("go") is None, reason="no go in PATH (the wheel is 70 MB: not for unit tests)"
)

DELEGATE = """\
#!/bin/sh
# A delegate that notes how it was called, and fails where it is told to.
echo "$CNI_COMMAND $CNI_IFNAME $CNI_CONTAINERID $CNI_ARGS" >> LOG
cat > "LOG.$CNI_COMMAND.$CNI_IFNAME"
if [ -e "LOG.fails.$CNI_COMMAND.$CNI_IFNAME" ]; then
    echo '{"cniVersion": "1.0.0", "code": 11, "msg": "told to"}'
    exit 1
fi
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.1/24"}]}'
"""

RESULT = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "sandbox": "/x"}],
    "ips": [{"interface": 0, "address": "11.0.1.2/24"}],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    return Store(cache).get(program(), Silent()).path / PLUGIN


@frozen
class Plugin:
    """The plugin with networks ``a`` and ``b`` of the noting delegate."""

    path: Path
    directory: Path
    env: dict[str, str] = field(factory=dict)

    @property
    def log(self) -> list[str]:
        log = self.directory / "log"
        return log.read_text().splitlines() if log.exists() else []

    def fails(self, command: str, interface: str) -> Path:
        told = self.directory / f"log.fails.{command}.{interface}"
        told.touch()
        return told

    def given(self, command: str, interface: str) -> dict[str, Any]:
        text = (self.directory / f"log.{command}.{interface}").read_text()
        found: dict[str, Any] = json.loads(text)
        return found

    def __call__(self, command: str, networks: str | None, *, code: int = 0, **more: Any) -> Any:
        config = {
            **chained(),
            "cniVersion": "1.0.0",
            "name": "xk8s",
            "confDir": str(self.directory / "networks"),
            "stateDir": str(self.directory / "state"),
            "prevResult": RESULT,
            "runtimeConfig": {
                "io.kubernetes.cri.pod-annotations": {"x": "y"}
                | ({} if networks is None else {ANNOTATION: networks})
            },
            **more,
        }
        done = subprocess.run(
            [self.path],
            env={
                **os.environ,
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": "pod-1",
                "CNI_NETNS": "/var/run/netns/pod-1",
                # There is no such namespace: what would look at it is told not to.
                "CNI_NETNS_OVERRIDE": "1",
                "CNI_IFNAME": "eth0",
                "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=p",
                "CNI_PATH": str(self.directory),
            },
            input=json.dumps(config),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def plugin(path: Path, tmp_path: Path) -> Plugin:
    (tmp_path / "networks").mkdir()
    script = tmp_path / "noting"
    script.write_text(DELEGATE.replace("LOG", str(tmp_path / "log")))
    script.chmod(0o755)
    for name in ("a", "b"):
        config = {"cniVersion": "1.0.0", "name": name, "type": "noting", "mine": name}
        (tmp_path / "networks" / f"{name}.conf").write_text(json.dumps(config))
    return Plugin(path, tmp_path)


def calls(plugin: Plugin) -> list[str]:
    return [" ".join(line.split()[:2]) for line in plugin.log]


def test_who_asks_for_nothing_gets_nothing(plugin: Plugin) -> None:
    for networks in (None, "", " "):
        assert plugin("ADD", networks)["ips"] == RESULT["ips"]
        assert plugin("DEL", networks) is None
    assert plugin.log == []
    # A runtime that knows no such capability.
    assert plugin("ADD", None, runtimeConfig={})["ips"] == RESULT["ips"]


def test_interfaces_are_in_the_order_of_the_annotation_and_the_result_is_the_first_ones(
    plugin: Plugin,
) -> None:
    result = plugin("ADD", "b, a,b")
    assert result["ips"] == RESULT["ips"]
    assert plugin.log == [
        f"ADD net{number} pod-1 IgnoreUnknown=1;K8S_POD_NAME=p" for number in (1, 2, 3)
    ]
    assert [plugin.given("ADD", f"net{number}")["mine"] for number in (1, 2, 3)] == ["b", "a", "b"]
    # It is no part of the list: what came before is not its business.
    assert "prevResult" not in plugin.given("ADD", "net1")


def test_what_was_made_is_taken_away_in_reverse_whatever_has_become_of_the_networks(
    plugin: Plugin,
) -> None:
    plugin("ADD", "a,b")
    for config in (plugin.directory / "networks").iterdir():
        config.unlink()
    plugin("DEL", "a,b")
    assert calls(plugin)[2:] == ["DEL net2", "DEL net1"]
    assert plugin.given("DEL", "net2")["mine"] == "b"
    assert plugin.given("DEL", "net2")["prevResult"]["ips"] == [{"address": "10.9.0.1/24"}]
    plugin("DEL", "a,b")
    plugin("DEL", "not/known")
    assert len(plugin.log) == 4
    assert list((plugin.directory / "state" / "results").iterdir()) == []


def test_what_a_killed_add_may_have_made_is_taken_away_too(plugin: Plugin) -> None:
    plugin("DEL", "a,b")
    assert calls(plugin) == ["DEL net2", "DEL net1"]


def test_another_pods_are_left_alone(plugin: Plugin) -> None:
    plugin("ADD", "a")
    (plugin.directory / "state/results/a-pod-12-net1").write_text("{}")
    (plugin.directory / "state/results/a-other-net1").write_text("{}")
    plugin("DEL", "a")
    left = {path.name for path in (plugin.directory / "state" / "results").iterdir()}
    assert left == {"a-pod-12-net1", "a-other-net1"}


def test_a_pod_whose_last_interface_fails_keeps_none(plugin: Plugin) -> None:
    plugin.fails("ADD", "net2")
    said = plugin("ADD", "a,b,a", code=1)
    assert 'network "b" as net2: told to' in said["msg"]
    assert calls(plugin) == ["ADD net1", "ADD net2", "DEL net2", "DEL net1"]
    assert list((plugin.directory / "state" / "results").iterdir()) == []


def test_one_that_cannot_be_taken_away_is_tried_again_and_holds_up_no_other(
    plugin: Plugin,
) -> None:
    plugin("ADD", "a,b")
    told = plugin.fails("DEL", "net2")
    assert 'network "b" as net2: told to' in plugin("DEL", "a,b", code=1)["msg"]
    assert calls(plugin)[2:] == ["DEL net2", "DEL net1"]
    told.unlink()
    plugin("DEL", None)
    assert calls(plugin)[4:] == ["DEL net2"]


def test_check_asks_for_each_and_misses_what_was_not_made(plugin: Plugin) -> None:
    plugin("ADD", "a,b")
    plugin("CHECK", "a,b")
    assert calls(plugin)[2:] == ["CHECK net1", "CHECK net2"]
    plugin.fails("CHECK", "net1")
    assert 'network "a" as net1' in plugin("CHECK", "a,b", code=1)["msg"]
    assert "has 2 more interfaces, and asked for 1" in plugin("CHECK", "a", code=1)["msg"]


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        ("a,c", 'there is no network "c" on this node'),
        ("a,,b", '"" is not a name of a network'),
        ("ns/a", '"ns/a" is not a name'),
        ("a@eth5", '"a@eth5" is not a name'),
        ("../networks/a", "is not a name"),
        ('[{"name": "a"}]', "is not a name"),
        ("A", '"A" is not a name'),
    ],
)
def test_what_it_does_not_know_is_refused_before_anything_is_made(
    plugin: Plugin, networks: str, said: str
) -> None:
    found = plugin("ADD", networks, code=1)
    assert said in found["msg"]
    assert found["code"] == 7
    assert plugin.log == []
    plugin("DEL", networks)


def test_a_list_that_it_is_the_first_of_is_refused(plugin: Plugin) -> None:
    assert "no result before it" in plugin("ADD", "a", code=1, prevResult=None)["msg"]


def test_the_versions_of_all_our_lists_are_known(path: Path) -> None:
    env = {**os.environ, "CNI_COMMAND": "VERSION"}
    done = subprocess.run([path], env=env, input="{}", capture_output=True, text=True, check=True)
    assert {"0.3.1", "1.0.0", "1.1.0"} <= set(json.loads(done.stdout)["supportedVersions"])


def test_its_sources_are_all_that_is_built() -> None:
    (module,) = program().sources
    directory = files("xk8s_multinet").joinpath("program")
    names = {path.name for path in directory.iterdir() if path.name.endswith(".go")}
    assert set(module.extra_files) == names  # type: ignore[union-attr]
