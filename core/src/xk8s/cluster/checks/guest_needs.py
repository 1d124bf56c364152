"""Whether guests have the programs and files that overlays need of them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from concurrent.futures import ThreadPoolExecutor

from xk8s.cluster.handle import Cluster
from xk8s.errors import MachineError, PlanError
from xk8s.overlay import GuestNeeds

# Names of programs are looked up as a shell does; of files a dangling link counts: what it leads
# to may come later in the boot.
_SCRIPT = """\
for name do
    case $name in
    /*) [ -e "$name" ] || [ -L "$name" ] ;;
    *) command -v "$name" >/dev/null ;;
    esac || echo "$name"
done
"""


def check_guests(
    cluster: Cluster, needs: Mapping[str, GuestNeeds], *, but: Container[str] = ()
) -> None:
    """`PlanError` that names each overlay with what guests, ``but`` for some, lack for it."""
    nodes = [
        node for node in cluster.record.nodes if node.name not in but and _wanted(needs, node.role)
    ]
    if not nodes:
        return

    def lacking(node: str, role: str) -> set[str]:
        names = _wanted(needs, role)
        result = cluster.run(node, ["/bin/sh", "-c", _SCRIPT, "sh", *names], timeout=120)
        if result.exit_code != 0:
            raise MachineError(
                f"{node}: cannot search for programs: exit code {result.exit_code}",
                log=result.stderr.decode(errors="replace"),
            )
        return set(result.stdout.decode(errors="replace").splitlines())

    with ThreadPoolExecutor(max_workers=min(8, len(nodes))) as pool:
        found = list(pool.map(lambda node: lacking(node.name, node.role), nodes))
    missing = set().union(*found)
    if not missing:
        return
    lines = []
    for overlay, need in needs.items():
        words = [f"program {name}" for name in need.programs if name in missing]
        words += [name for name in need.files if name in missing]
        if words:
            lines.append(f"overlay {overlay!r} needs {', '.join(words)}")
    bad = [node.name for node, names in zip(nodes, found, strict=True) if names]
    raise PlanError(
        "; ".join(lines),
        where=f"guests {', '.join(bad)}",
        hint="the base system lacks it: choose packages that contain it (with overlay debian: "
        "-s debian.packages=NAME), or leave these overlays out",
    )


def _wanted(needs: Mapping[str, GuestNeeds], role: str) -> list[str]:
    names = [
        name
        for need in needs.values()
        if role in need.roles
        for name in (*need.programs, *need.files)
    ]
    return sorted(set(names))
