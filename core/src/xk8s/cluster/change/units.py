"""What systemd has to do when files of a running node have changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs
from attrs import frozen

from xk8s.build.layers.diff import Difference
from xk8s.build.layers.stack import Stack
from xk8s.cluster.handle import Cluster
from xk8s.errors import MachineError
from xk8s.overlay import Entry, Take
from xk8s.planning.plan import NODE_LAYER, Plan, PlannedNode

RESTART_SECONDS = 600.0
"""For all units of a node. Without KVM an API server alone takes a minute when others compute."""

_RESTART = 'verb=$1; shift; systemctl reset-failed "$@" 2>/dev/null; systemctl "$verb" "$@"'
"""Arguments: what to do, and the units. One program, as each call of the agent takes a while."""

_LINES = "30"
_STEP_SECONDS = 120.0

_DIRECTORY = r"/(?:etc|usr/lib|usr/local/lib)"
_UNIT = re.compile(
    rf"{_DIRECTORY}/systemd/system/([^/]+\.(?:service|socket|timer|path))(?:\.d/[^/]+)?"
)
_WANTED = re.compile(rf"{_DIRECTORY}/systemd/system/[^/]+\.(?:wants|requires)/([^/]+)")
_SYSTEMD = re.compile(rf"{_DIRECTORY}/systemd/system(?:/.*)?")
_KINDS = {
    "modules": re.compile(rf"{_DIRECTORY}/modules-load\.d/.*"),
    "sysctl": re.compile(rf"{_DIRECTORY}/sysctl\.d/.*|/etc/sysctl\.conf"),
    "tmpfiles": re.compile(rf"{_DIRECTORY}/tmpfiles\.d/.*\.conf"),  # noqa: S108
    "network": re.compile(rf"{_DIRECTORY}/systemd/network/.*"),
    "manager": re.compile(rf"{_DIRECTORY}/systemd/system\.conf\.d/.*"),
    "nothing": re.compile(r"/etc/profile\.d/.*"),  # read by each new shell
    "udev": re.compile(rf"{_DIRECTORY}/udev/.*"),
}


@frozen(kw_only=True)
class Actions:
    """Work on units, in this order: ``stop`` units, read their files again (``reload``), load
    modules, set sysctls, create what ``tmpfiles`` say, let networkd and udev read their files, then
    restart units: those of ``renew`` only if they run, and those of ``if_used``, which are among
    ``restart``, only if the VM has them and they run or failed.
    """

    stop: tuple[str, ...] = ()
    reload: bool = False
    modules: bool = False
    sysctl: bool = False
    tmpfiles: tuple[str, ...] = ()
    network: bool = False
    udev: bool = False
    restart: tuple[str, ...] = ()
    renew: tuple[str, ...] = ()
    if_used: tuple[str, ...] = ()


def actions(
    plan: Plan,
    planned: PlannedNode,
    change: Difference,
    new: Stack,
    *,
    overlays: Iterable[str] = (),
    pending: Iterable[str] = (),
) -> Actions:
    """Return the work that a change of files requires. ``overlays`` have other secrets; ``pending``
    units should have been restarted by an earlier apply.
    """
    owners = _Owners(plan, planned)
    gone, put = {*change.gone, *change.emptied}, [*change.put, *change.directories]
    stop = dict.fromkeys(
        match[1] for path in change.gone for match in [_WANTED.fullmatch(path)] if match
    )
    wanted = dict.fromkeys(match[1] for path in put for match in [_WANTED.fullmatch(path)] if match)
    units: dict[str, None] = {}
    own: dict[str, None] = {}
    kinds: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for path in change.paths:
        kind = next((name for name, known in _KINDS.items() if known.fullmatch(path)), None)
        if kind is not None:
            kinds[kind].append(path)
        elif found := _UNIT.fullmatch(path):
            masked = (there := new.find(path)) is not None and there[1].target == "/dev/null"
            (stop if masked or (path in gone and "/" not in path.partition(found[1])[2]) else own)[
                found[1]
            ] = None
        elif not _SYSTEMD.fullmatch(path):
            units |= dict.fromkeys(owners.units(path, change.before.get(path, "")))
    # What systemd gives to all services; one that runs keeps what it was started with.
    everybody = plan.ctx.overlays if kinds["manager"] else ()
    units |= dict.fromkeys(owners.of_overlays((*overlays, *everybody)))
    units |= {unit: None for unit in pending if _is_there(new, unit)}
    units |= {unit: None for unit in own if _is_enabled(new, unit)}
    units |= wanted
    restarted = [unit for unit in units if unit not in stop or unit in wanted]
    order = {unit: index for index, unit in enumerate(owners.of_overlays(plan.ctx.overlays))}
    return Actions(
        stop=tuple(unit for unit in stop if unit not in wanted),
        reload=bool(kinds["manager"]) or any(_SYSTEMD.fullmatch(path) for path in change.paths),
        modules=bool(kinds["modules"]),
        sysctl=bool(kinds["sysctl"] or kinds["modules"]),
        tmpfiles=tuple(path for path in kinds["tmpfiles"] if path not in gone),
        network=bool(kinds["network"]),
        udev=bool(kinds["udev"]),
        restart=tuple(
            sorted(
                restarted,
                key=lambda unit: (order.get(unit, len(order)), unit),
            )
        ),
        renew=tuple(unit for unit in own if unit not in units and unit not in stop),
        if_used=tuple(
            sorted(unit for unit in restarted if not (owners.bring(unit) or _is_enabled(new, unit)))
        ),
    )


@attrs.define(eq=False)
class _Owners:
    """Owners of a node's paths, and the units that use them."""

    plan: Plan
    planned: PlannedNode

    def units(self, path: str, before: str) -> tuple[str, ...]:
        """Return the units of the topmost layer that has the path and is not a local directory,
        else of the layer that had it ``before``.
        """
        local = {directory.layer for directory in self.plan.directories}
        layers = {planned.layer.name: planned.layer for planned in self.plan.layers}
        own = {file.path: file for file in self.planned.files}
        for name in reversed(self.plan.stack(self.planned)):
            if name == NODE_LAYER:
                if path in own:
                    units = own[path].units
                    overlay = self.planned.owners.get(path, "")
                    return self.of_overlays([overlay]) if units is None else units
            elif name not in local and (entry := _entry(layers[name].entries, path)):
                units = getattr(entry, "units", None)
                return layers[name].units if units is None else units
        if before not in layers:
            return ()
        # What it said itself is not known any more; files beside it say what they are for.
        directory = path.rpartition("/")[0]
        beside = [
            getattr(entry, "units", None)
            for entry in layers[before].entries
            if entry.path.rpartition("/")[0] == directory
        ]
        if beside and None not in beside:
            return tuple(dict.fromkeys(unit for units in beside for unit in units or ()))
        return layers[before].units

    def bring(self, unit: str) -> bool:
        """Return whether an overlay brings the unit: the base system may have one of that name or
        not, and that one may be switched off.
        """
        name = re.sub(r"@[^.]+\.", "@.", unit)
        layers = [
            planned.layer
            for planned in self.plan.layers
            if planned.layer.name in self.planned.layers
        ]
        own = {file.path for file in self.planned.files}
        places = [f"{place}/systemd/system/{name}" for place in ("/etc", "/usr/lib")]
        return any(
            path in own or any(_entry(layer.entries, path) for layer in layers) for path in places
        )

    def of_overlays(self, overlays: Iterable[str]) -> tuple[str, ...]:
        """Return the units that use what these overlays put there, lowest layers first."""
        return units_of(self.plan, self.planned, overlays)


def units_of(plan: Plan, planned: PlannedNode, overlays: Iterable[str]) -> tuple[str, ...]:
    """Return the units of a node that use what these overlays put there."""
    wanted = set(overlays)
    return tuple(
        dict.fromkeys(
            unit
            for planned_layer in plan.layers
            if planned_layer.overlay in wanted and planned_layer.layer.name in planned.layers
            for unit in planned_layer.layer.units
        )
    )


def _entry(entries: Iterable[Entry], path: str) -> Entry | None:
    """The entry that has the path: itself, or a directory that is taken as a whole."""
    for entry in entries:
        if entry.path == path:
            return entry
        if isinstance(entry, Take) and path.startswith(entry.path.rstrip("/") + "/"):
            return entry
    return None


def _is_there(stack: Stack, unit: str) -> bool:
    return any(stack.find(f"{place}/systemd/system/{unit}") for place in ("/etc", "/usr/lib"))


def _is_enabled(stack: Stack, unit: str) -> bool:
    return any(
        stack.find(f"{directory}/systemd/system/{target}/{unit}")
        for directory in ("/etc", "/usr/lib")
        for target in ("multi-user.target.wants", "sysinit.target.wants", "timers.target.wants",
                       "sockets.target.wants", "multi-user.target.requires")
    )  # fmt: skip


def carry_out(cluster: Cluster, node: str, todo: Actions) -> tuple[str, ...]:
    """Do it; the units that were not restarted, because the VM does not have or use them.
    `MachineError` when something does not start, with its log.
    """

    def step(*argv: str) -> None:
        result = cluster.run(node, argv, timeout=_STEP_SECONDS)
        if result.exit_code != 0:
            raise MachineError(
                f"{node}: {' '.join(argv)} failed with exit code {result.exit_code}",
                where=node,
                log=result.stderr.decode(errors="replace").strip(),
            )

    if todo.stop:
        step("systemctl", "stop", *todo.stop)
    if todo.reload:
        step("systemctl", "daemon-reload")
    if todo.modules:
        step("systemctl", "restart", "systemd-modules-load.service")
    if todo.sysctl:
        step("systemctl", "restart", "systemd-sysctl.service")
    if todo.tmpfiles:
        step("systemd-tmpfiles", "--create", *todo.tmpfiles)
    if todo.udev:
        step("systemctl", "reload-or-restart", "systemd-udevd.service")
    if todo.network:
        step("systemctl", "reload-or-restart", "systemd-networkd.service")
    hint = "fix the cause and apply again: it continues"
    if todo.renew:
        restart(cluster, node, todo.renew, hint=hint, verb="try-restart")
    unused = _unused(cluster, node, todo.if_used)
    if units := [unit for unit in todo.restart if unit not in unused]:
        restart(cluster, node, units, hint=hint)
    return unused


def _unused(cluster: Cluster, node: str, units: Sequence[str]) -> tuple[str, ...]:
    """Return the units that the node does not have, or that are switched off."""
    if not units:
        return ()
    # A line for each, in this order; of a unit that is not there it says "inactive" as well.
    result = cluster.run(node, ["systemctl", "is-active", *units], timeout=_STEP_SECONDS)
    states = result.stdout.decode(errors="replace").split()
    if len(states) != len(units):
        raise MachineError(
            f"{node}: systemctl is-active did not say how {short(units)} are",
            where=node,
            log=result.stderr.decode(errors="replace").strip(),
        )
    return tuple(
        unit for unit, state in zip(units, states, strict=True) if state in ("inactive", "unknown")
    )


def restart(
    cluster: Cluster, node: str, units: Sequence[str], *, hint: str, verb: str = "restart"
) -> None:
    """Restart units in one call: systemd knows their order, and keeps to it among all requested
    units. ``units`` are those of lower layers first, and requested in reverse: systemctl requests
    one after the other, so a store that is named first would be gone before its dependents have
    ended.

    systemd refuses a unit that died many times within seconds ("Start request repeated too
    quickly"), but here somebody changed something: the counters are reset.
    """
    argv = ["sh", "-c", _RESTART, "sh", verb, *reversed(units)]
    try:
        result = cluster.run(node, argv, timeout=RESTART_SECONDS)
    except TimeoutError as error:
        raise _not_restarted(cluster, node, units, str(error), hint) from error
    if result.exit_code != 0:
        text = result.stderr.decode(errors="replace").strip()
        raise _not_restarted(cluster, node, units, text, hint)


def short(units: Iterable[str]) -> str:
    """Return names of units for people."""
    return ", ".join(unit.removesuffix(".service") for unit in units)


def _not_restarted(
    cluster: Cluster, node: str, units: Sequence[str], why: str, hint: str
) -> MachineError:
    argv = ["journalctl", "--no-pager", "--quiet", "-n", _LINES]
    for unit in units:
        argv += ["-u", unit]
    try:
        log = cluster.run(node, argv, timeout=60).stdout.decode(errors="replace").strip()
    except (MachineError, TimeoutError) as error:
        log = str(error)
    return MachineError(f"{node}: {short(units)}: {why}", where=node, hint=hint, log=log)
