"""Removal of nodes from the cluster: they are drained, and their objects are deleted."""

from __future__ import annotations

from collections.abc import Iterable

from xk8s.context import ClusterAccess
from xk8s.errors import AbsentError, MachineError
from xk8s.overlay import NODE_ROLES
from xk8s.progress import Progress

from xk8s_kubernetes import addresses, components

_DRAIN_SECONDS = 300
_SECONDS = _DRAIN_SECONDS + 120.0
"""Extra time, since kubectl alone takes ten seconds to start without KVM."""


def leave(access: ClusterAccess, nodes: Iterable[str], progress: Progress) -> None:
    """Evict the pods of these nodes as a drain does, then delete the nodes. `MachineError` with
    kubectl's output if pods do not leave (because of a PodDisruptionBudget, for example).

    A node whose VM is dead or paused is deleted alone, and its pods with it: nobody there could
    confirm that they have ended, and a drain would wait for that.
    """
    ours = {node.name for node in access.ctx.nodes if node.role in NODE_ROLES}
    names = [name for name in nodes if name in ours]
    if not names:
        return
    alive = [name for name in names if _answers(access, name)]
    drain = ["drain", *alive, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
             f"--timeout={_DRAIN_SECONDS}s"]  # fmt: skip
    delete = ["delete", "node", *names, "--ignore-not-found"]
    for arguments in (drain, delete) if alive else (delete,):
        progress.item("kubectl", f"kubectl {arguments[0]} {' '.join(names)}")
        _kubectl(access, arguments)
    progress.finish("kubectl")


def _answers(access: ClusterAccess, node: str) -> bool:
    try:
        access.run(node, ["true"])
    except AbsentError:
        return False
    except (MachineError, TimeoutError):
        pass  # it is slow: kubectl may have more patience
    return True


def _kubectl(access: ClusterAccess, words: list[str]) -> None:
    argv = ["kubectl", f"--kubeconfig={components.ETC}/root.conf", *words]
    node = addresses.control_plane(access.ctx).name
    try:
        result = access.run(node, argv, timeout=_SECONDS)
    except TimeoutError as error:
        raise MachineError(f"{' '.join(words[:2])}: {error}", where=node) from error
    if result.exit_code != 0:
        raise MachineError(
            f"{' '.join(words[:2])}: the pods of the node do not leave",
            where=node,
            hint="the node keeps running, without new pods: `kubectl uncordon` reverts that; what "
            "holds a pod is in the log",
            log=result.stderr.decode(errors="replace").strip(),
        )
