"""What a saved state depends on besides the plan: QEMU, the machine it builds, the CPU."""

from __future__ import annotations

from pathlib import Path

from xk8s.machine.qemu.accelerator import Accel, qemu_version
from xk8s.machine.qemu.command import reference_command
from xk8s.util.digest import digest


def machine_key(accel: Accel) -> str:
    """Return a digest of what runs the VMs: a state fits no other QEMU, machine or CPU."""
    return digest(
        {
            "qemu": qemu_version(),
            # With the accelerator's arguments. They say all of TCG; under KVM
            # the guest's CPU is the host's.
            "command": reference_command(accel),
            "cpu": _host_cpu() if accel.name == "kvm" else "",
        }
    )


def _host_cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    first = lines[: lines.index("")] if "" in lines else lines
    return "\n".join(line for line in first if line.split("\t")[0].strip() in wanted)
