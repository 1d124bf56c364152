"""Faults of Kubernetes that are known by what they leave in journals and events.

The most specific first. Examples are lines as they were seen with Kubernetes 1.36, containerd 2.4
and kernel 6.12, and those that users of older releases look for.
"""

from __future__ import annotations

from xk8s_kubernetes.faults.components import KEYS, START
from xk8s_kubernetes.faults.pods import PODS, WAITING

FAULTS = (*START, *KEYS, *PODS, *WAITING)
