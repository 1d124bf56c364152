"""kubectl of this machine. In a guest without KVM each call takes seconds of CPU time."""

from __future__ import annotations

import subprocess
from pathlib import Path

from attrs import frozen

from tests.cluster.programs import kubernetes
from tests.conftest import Xk8s


@frozen
class Kubectl:
    """kubectl with one kubeconfig, and with no other file of the user's."""

    config: Path

    def __call__(
        self, *words: str, stdin: str | None = None, code: int = 0, timeout: float = 900
    ) -> str:
        """Run it and expect an exit code; its stdout (stderr when it failed)."""
        done = self.run(*words, stdin=stdin, timeout=timeout)
        assert done.returncode == code, (words, stdin, done.returncode, done.stderr, done.stdout)
        return done.stdout if code == 0 else done.stderr

    def run(
        self, *words: str, stdin: str | None = None, timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run it to any end."""
        return subprocess.run(
            [kubernetes() / "kubectl", f"--kubeconfig={self.config}", *words],
            input=stdin or "",
            capture_output=True,
            check=False,
            text=True,
            timeout=timeout,
        )


def kubectl_of(xk8s: Xk8s, name: str) -> Kubectl:
    """kubectl for the running cluster of that name."""
    assert xk8s.root is not None
    return Kubectl(xk8s.root / "s" / "clusters" / name / "kubeconfig")
