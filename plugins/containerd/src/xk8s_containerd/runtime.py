"""containerd as a container runtime of nodes."""

from __future__ import annotations

from xk8s_images import Loader, cri

from xk8s_containerd.load import listing, load

RUNTIME = cri.ContainerRuntime(
    name="containerd",
    socket="/run/containerd/containerd.sock",
    mounts=("var-lib-containerd.mount",),
    loader=Loader(load=load, listing=listing),
)
