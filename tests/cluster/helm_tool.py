"""The real Helm, built from its Go module once per cache, and its whole life with a small chart."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from attrs import frozen
from xk8s.sources import Artifact, GoModule

from tests.cluster.programs import programs

HERE = Path(__file__).parent / "helm"
CHART = HERE / "chart"
VERSION = "v4.3.1"

HELM = Artifact(
    name="helm",
    version=VERSION,
    members=("helm",),
    sources=(
        GoModule(
            go_mod=(HERE / "go.mod").read_text(),
            go_sum=(HERE / "go.sum").read_text(),
            packages={"helm": "helm.sh/helm/v4/cmd/helm"},
            ldflags=f"-X helm.sh/helm/v4/internal/version.version={VERSION}",
        ),
    ),
)


@frozen(kw_only=True)
class Helm:
    """Helm with its own directories and the user's kubeconfig."""

    home: Path
    kubeconfig: Path
    context: str

    def __call__(self, *words: str, timeout: float = 400) -> str:
        """What it prints; its errors when it fails."""
        homes = {f"HELM_{kind}_HOME": str(self.home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        mine = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
        done = subprocess.run(
            [programs(HELM) / "helm", *words],
            env={**mine, **homes, "KUBECONFIG": str(self.kubeconfig),
                 "HELM_KUBECONTEXT": self.context},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"helm {words}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def json(self, *words: str) -> Any:
        """What it prints as JSON."""
        return json.loads(self(*words, "--output", "json"))
