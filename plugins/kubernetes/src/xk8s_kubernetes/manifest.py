"""Values that overlays contribute to the point ``kubernetes.manifest``."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from xk8s.errors import PlanError
from xk8s.overlay import File

DIRECTORY = "/etc/kubernetes/manifests.d"

_FIRST = """\
# The API server creates it too, some time after it answers: nothing has to wait for that.
apiVersion: v1
kind: Namespace
metadata:
  name: kube-system
"""


@frozen(kw_only=True)
class Manifest:
    """A YAML text (one or more documents) that is applied once the API server answers.
    ``name`` is unique and sorts the order within an overlay: ``50-coredns``.
    """

    name: str
    yaml: str


def manifest_files(manifests: Sequence[Manifest]) -> tuple[File, ...]:
    """Return the files of the control plane, numbered so that kubectl applies them in this order.
    `PlanError` for a name with two contents or one that is not a file name.
    """
    manifests = tuple(dict.fromkeys(manifests))
    names = [manifest.name for manifest in manifests]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"two manifests are called {name!r}", where="kubernetes.manifest")
        if not name or "/" in name:
            raise PlanError(f"{name!r} is not the name of a manifest", where="kubernetes.manifest")
    first = Manifest(name="kube-system", yaml=_FIRST)
    return tuple(
        File(
            path=f"{DIRECTORY}/{index:02}-{manifest.name}.yaml",
            data=manifest.yaml.encode(),
            units=("kube-manifests.service",),
        )
        for index, manifest in enumerate([first, *manifests])
    )
