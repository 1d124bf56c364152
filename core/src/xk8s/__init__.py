"""xk8s: a real Kubernetes cluster of QEMU VMs from composable layers.

What plugin authors import: `hookimpl` here, values from `xk8s.overlay`, artifacts from
`xk8s.sources`, checks from `xk8s.checks`.
"""

from __future__ import annotations

import pluggy

__all__ = ["hookimpl"]

hookimpl = pluggy.HookimplMarker("xk8s")
