"""CRI-O as a container runtime of nodes."""

from __future__ import annotations

from xk8s_images import Loader, cri

from xk8s_crio.load import listing, load

RUNTIME = cri.ContainerRuntime(
    name="crio",
    socket="/run/crio/crio.sock",
    mounts=("var-lib-containers.mount",),
    loader=Loader(load=load, listing=listing),
)
