"""The directory of a VM's sockets."""

from __future__ import annotations

from pathlib import Path

from xk8s.errors import MachineError


def check_sockets(path: Path, name: str) -> None:
    """`MachineError` when the directory of a socket of VM ``name`` is gone. A lock file must not
    make it again: nobody could reach the VM in it, and it would not be private.
    """
    if not path.parent.is_dir():
        raise MachineError(
            f"{name}: the VM cannot be reached: the directory of its sockets was removed",
            where=str(path.parent),
            hint="`xk8s down` ends the VMs; if a log-out did that: `loginctl enable-linger`",
        )
