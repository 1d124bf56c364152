"""Kernel requirements of overlays, compared with the features of the base's kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xk8s.errors import PlanError
from xk8s.overlay import BootOptions, File, KernelFacts, KernelNeeds, Role

_ADDING = re.compile(
    r"console|earlycon|ip|module_blacklist|modprobe\.blacklist|initcall_blacklist|"
    r"systemd\.(setenv|mask|wants|set_credential(_binary)?)|.*\.dyndbg|dyndbg"
)
"""Kernel arguments that may be repeated, and add up."""

MODULES_LOAD = "/etc/modules-load.d/xk8s.conf"


def check_kernel(needs: Mapping[str, KernelNeeds], facts: KernelFacts) -> None:
    """Raise `PlanError`, which names each overlay with what the kernel lacks for it."""
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
            hint="choose a base with a different kernel, or leave these overlays out",
        )


def check_arguments(given: Iterable[tuple[str, BootOptions]], node: str) -> None:
    """Raise `PlanError`, which names two overlays that give a kernel argument different values."""
    seen: dict[str, tuple[str, str]] = {}
    for overlay, options in given:
        for argument in options.kernel_args:
            name, _, value = argument.partition("=")
            key = _normal(name)
            other, its = seen.setdefault(key, (overlay, value))
            if its != value and other != overlay and not _ADDING.fullmatch(name):
                raise PlanError(
                    f"overlays {other!r} and {overlay!r} both set the kernel argument {name}: "
                    f"to {its!r} and to {value!r}",
                    where=node,
                    hint="leave one of them out, or ask its authors for a setting",
                )


def module_files(needs: Mapping[str, KernelNeeds], role: Role) -> tuple[File, ...]:
    """Return the file that makes systemd load the modules that overlays want on this role."""
    modules = sorted(
        {_normal(module) for need in needs.values() if role in need.roles for module in need.load}
    )
    if not modules:
        return ()
    text = "".join(f"{module}\n" for module in modules)
    return (File(path=MODULES_LOAD, data=text.encode()),)


def _normal(module: str) -> str:
    return module.replace("-", "_")
