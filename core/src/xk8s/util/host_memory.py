"""Memory of this machine and of its processes, in bytes, as the kernel says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def parse_meminfo(text: str) -> Mapping[str, int]:
    """Return the fields of a ``/proc/meminfo`` in bytes, those of a guest, too."""
    pairs = (line.split(":", 1) for line in text.splitlines() if line.rstrip().endswith("kB"))
    return {name.strip(): int(value.split()[0]) << 10 for name, value in pairs}


def memory_of_host(field: str) -> int:
    """Return a field of this machine's ``/proc/meminfo`` (``MemTotal``, ``MemAvailable``)."""
    return parse_meminfo(Path("/proc/meminfo").read_text())[field]


def proportional_memory(pid: int) -> int:
    """Return the PSS of a process (shared pages count by their share); 0 if it is gone."""
    try:
        return parse_meminfo(Path(f"/proc/{pid}/smaps_rollup").read_text()).get("Pss", 0)
    except OSError:
        return 0
