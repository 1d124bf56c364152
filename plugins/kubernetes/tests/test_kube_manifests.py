"""The program that applies manifests in a node, with a stand-in for kubectl that tells what it was
asked for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

PROGRAM = files("xk8s_kubernetes").joinpath("files/control/usr/lib/xk8s/kube-manifests")
KUBECTL = """\
#!/bin/sh
echo "$@" >>{log}
! grep -q broken {wanted}/*.yaml
"""

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs it with manifests of these names; what kubectl was asked for."""
    wanted, applied, log = tmp_path / "wanted", tmp_path / "applied", tmp_path / "log"
    program = tmp_path / "program"
    text = PROGRAM.read_text()
    for place, here in (
        ("/etc/kubernetes/manifests.d", wanted),
        ("/run/xk8s/manifests", applied),
    ):
        assert place in text
        text = text.replace(place, str(here))
    program.write_text(text)
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL.format(log=log, wanted=wanted))
    kubectl.chmod(0o755)

    def run(*names: str, text: str = "", code: int = 0) -> list[str]:
        subprocess.run(["rm", "-rf", wanted], check=True)
        wanted.mkdir()
        for name in names:
            (wanted / name).write_text(text)
        log.write_text("")
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["sh", program], env=environment, check=False)
        assert done.returncode == code
        return log.read_text().replace(f"{tmp_path}/", "").splitlines()

    return run


APPLY = "apply --server-side --force-conflicts --validate=false --field-manager=xk8s -f wanted"


def test_all_are_applied_by_one_process(run: Run) -> None:
    assert run("00-a.yaml", "01-50-b.yaml") == [APPLY]


def test_objects_of_a_manifest_that_is_gone_are_deleted(run: Run) -> None:
    run("00-a.yaml", "01-50-b.yaml", "02-b.yaml")
    gone = "delete --ignore-not-found -f applied/01-50-b.yaml"
    # The others only have other places now.
    assert run("00-a.yaml", "01-b.yaml") == [gone, APPLY]
    assert run("00-a.yaml", "01-b.yaml", "02-c.yaml") == [APPLY]


def test_what_failed_is_done_again(run: Run) -> None:
    run("00-a.yaml", "01-b.yaml")
    again = run("00-a.yaml", text="broken", code=1)
    assert again == ["delete --ignore-not-found -f applied/01-b.yaml"]
    assert run("00-a.yaml") == [*again, APPLY]
