"""What a report collects about CRI-O."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, Observation

from xk8s_crio.artifacts import crio_artifact
from xk8s_crio.settings import CrioSettings


def observations(ctx: Context) -> Iterator[Observation]:
    """What the runtime has, where crictl is at hand to ask it."""
    yield Observation(name="cri/version", argv=("crio", "--version"), roles=NODE_ROLES)
    if "crictl" not in crio_artifact(ctx.settings(CrioSettings)).members:
        return
    for name, arguments in (
        ("images", ("images",)),
        ("pods", ("pods",)),
        ("containers", ("ps", "-a")),
        ("info", ("info",)),
    ):
        yield Observation(name=f"cri/{name}", argv=("crictl", *arguments), roles=NODE_ROLES)
