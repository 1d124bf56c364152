"""Kernel requirements of overlays, compared with the features of the base's kernel and with each
other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from xk8s.errors import PlanError
from xk8s.overlay import BootOptions, File, Fragment, KernelFacts, KernelNeeds, Node, Role
from xk8s.planning.contradictions import check_values
from xk8s.planning.core_points import sysctl_of_role, sysctl_value

_ADDING = re.compile(
    r"console|earlycon|ip|initcall_blacklist|"
    r"systemd\.(setenv|mask|wants|set_credential(_binary)?)|.*\.dyndbg|dyndbg"
)
"""Kernel arguments that may be repeated, and add up."""

_BLOCKING = ("module_blacklist", "modprobe.blacklist")
"""Kernel arguments with a list of modules that are not loaded."""

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


def check_settings(
    given: Iterable[tuple[str, BootOptions]],
    needs: Mapping[str, KernelNeeds],
    sysctls: Iterable[Fragment],
    node: Node,
) -> None:
    """Raise `PlanError`, which names two overlays that contradict each other in what they set in
    the kernel of a node, whichever way: ``given`` has its arguments, ``needs`` modules to load,
    ``sysctls`` the fragments.
    """
    check_values(_settings(given, needs, sysctls, node.role), where=node.name)


def _settings(
    given: Iterable[tuple[str, BootOptions]],
    needs: Mapping[str, KernelNeeds],
    sysctls: Iterable[Fragment],
    role: Role,
) -> Iterator[tuple[str, str, str]]:
    for fragment in sysctls:
        if role in fragment.value.roles:
            yield (
                fragment.overlay,
                sysctl_of_role(fragment.value.key, role),
                sysctl_value(fragment.value.value),
            )
    for overlay, need in needs.items():
        if role in need.roles:
            for module in need.load:
                yield overlay, f"the module {_normal(module)}", "loaded"
    for overlay, options in given:
        # An overlay may repeat an argument: hugepagesz=2M hugepages=9 hugepagesz=1G hugepages=1
        values: dict[str, list[str]] = {}
        for argument in options.kernel_args:
            name, _, value = argument.partition("=")
            if name in _BLOCKING:
                for module in filter(None, value.split(",")):
                    yield overlay, f"the module {_normal(module)}", "blocked"
            elif name.startswith("sysctl."):
                thing = sysctl_of_role(name.removeprefix("sysctl."), role)
                yield overlay, thing, sysctl_value(value)
            elif not _ADDING.fullmatch(name):
                values.setdefault(_normal(name), []).append(value)
        for name, in_order in values.items():
            yield overlay, f"the kernel argument {name}", " ".join(in_order)


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
