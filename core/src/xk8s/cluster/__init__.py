"""Clusters that run: started from a plan, found again by name, and taken down without a trace."""

from __future__ import annotations

from xk8s.cluster.access import Cluster, open_cluster
from xk8s.cluster.apply import apply
from xk8s.cluster.record import list_clusters
from xk8s.cluster.start import back_to, snapshot, up
from xk8s.cluster.stop import down

__all__ = ["Cluster", "apply", "back_to", "down", "list_clusters", "open_cluster", "snapshot", "up"]
