"""Kernel requirements of overlays against what the base's kernel has."""

from __future__ import annotations

from collections.abc import Mapping

from xk8s.errors import PlanError
from xk8s.overlay import File, KernelFacts, KernelNeeds, Role

MODULES_LOAD = "/etc/modules-load.d/xk8s.conf"


def check_kernel(needs: Mapping[str, KernelNeeds], facts: KernelFacts) -> None:
    """`PlanError` that names each overlay with what the kernel lacks for it."""
    lines = []
    for overlay, need in needs.items():
        lacking = [f"CONFIG_{symbol}" for symbol in need.config if symbol not in facts.config]
        lacking += [
            f"module {module}"
            for module in dict.fromkeys((*need.modules, *need.load))
            if _normal(module) not in facts.modules | facts.builtin
        ]
        if lacking:
            lines.append(f"overlay {overlay!r} needs {', '.join(lacking)}")
    if lines:
        raise PlanError(
            "; ".join(lines),
            where=f"kernel {facts.release}",
            hint="choose a base with another kernel, or leave these overlays out",
        )


def module_files(needs: Mapping[str, KernelNeeds], role: Role) -> tuple[File, ...]:
    """The file that makes systemd load the modules that overlays want on this role."""
    modules = sorted(
        {_normal(module) for need in needs.values() if role in need.roles for module in need.load}
    )
    if not modules:
        return ()
    text = "".join(f"{module}\n" for module in modules)
    return (File(path=MODULES_LOAD, data=text.encode()),)


def _normal(module: str) -> str:
    return module.replace("-", "_")
