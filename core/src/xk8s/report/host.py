"""What this machine is, and which versions of everything run on it."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xk8s.names.allow_list import careful_policy
from xk8s.names.discovery import COMMANDS_GROUP, OVERLAYS_GROUP, offered
from xk8s.report.doctor import examine
from xk8s.util.host_memory import memory_of_host


def versions() -> dict[str, Any]:
    """Return versions: xk8s, overlays and verbs of plugins with their distributions, Python, QEMU,
    kernel, CPU. A value that is not available says why.
    """
    return {
        "xk8s": _try(lambda: version("xk8s")),
        "overlays": _try(lambda: _offered(OVERLAYS_GROUP)),
        "verbs of overlays": _try(lambda: _offered(COMMANDS_GROUP)),
        "python": f"{platform.python_version()} ({sys.executable})",
        "qemu": _try(_qemu),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": _try(_system),
        "cpu": _try(_cpu),
        "memory": _try(lambda: f"{memory_of_host('MemTotal') >> 20} MiB"),
    }


def findings() -> str:
    """Return the output of `xk8s doctor`."""
    lines = []
    for finding in examine():
        lines.append(f"{finding.level:<4}  {finding.name}: {finding.text}")
        if finding.do:
            lines.append(f"      do: {finding.do}")
    return "\n".join(lines) + "\n"


def _try(what: Callable[[], Any]) -> Any:
    try:
        return what()
    except Exception as error:  # a report is made where something is broken
        return f"not available: {type(error).__name__}: {error}"


def _offered(group: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for offer in offered(group, careful_policy()):
        text = f"{offer.origin}, refused: {offer.refused}" if offer.refused else offer.origin
        found.setdefault(offer.name, []).append(text)
    return {name: "; ".join(texts) for name, texts in found.items()}


def _qemu() -> str:
    from xk8s.machine.qemu.accelerator import qemu_version

    return ".".join(str(part) for part in qemu_version())


def _system() -> str:
    return _first(r"^PRETTY_NAME=\"?([^\"\n]+)", "/etc/os-release")


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text()
    names = re.findall(r"^model name\s*:\s*(.+)$", text, re.M)
    flags = [flag for flag in ("vmx", "svm") if re.search(rf"^flags\s*:.*\b{flag}\b", text, re.M)]
    return f"{len(names)} x {names[0] if names else '?'}, {' '.join(flags) or 'no vmx, no svm'}"


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, Path(path).read_text(), re.M)
    return found[1].strip() if found else "unknown"
