"""Programs of this machine that tests use beside xk8s, from the user's cache or made now."""

from __future__ import annotations

import functools
from pathlib import Path

from xk8s.build.artifacts.store import Store
from xk8s.progress import Silent
from xk8s.sources import Artifact
from xk8s.util.paths import cache_dir
from xk8s_kubernetes.artifacts import kubernetes_artifact
from xk8s_kubernetes.settings import KubernetesSettings


def programs(artifact: Artifact) -> Path:
    """The directory with an artifact's members."""
    return Store(cache_dir()).get(artifact, Silent()).path


@functools.cache
def kubernetes() -> Path:
    """The directory with kubectl and the API server."""
    return programs(kubernetes_artifact(KubernetesSettings()))
