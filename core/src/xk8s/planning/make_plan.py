"""Making the plan: a pure value that describes a whole cluster before anything is touched.

`make_plan` runs the corridor up to here: names and settings, resolve, topology, hooks. The same
request on the same installed overlays gives the same plan, digit for digit.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

import attrs

from xk8s.context import Context
from xk8s.errors import PlanError, PluginError, UsageError, nearest
from xk8s.names.allow_list import policy
from xk8s.names.core_settings import CORE_SETTINGS, ClusterSettings, PluginSettings
from xk8s.names.discovery import Offer
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.names.settings import Settings, Value, canonical
from xk8s.overlay import (
    BootImage,
    BootOptions,
    File,
    KernelNeeds,
    Layer,
    Network,
    Node,
    Volume,
)
from xk8s.planning import topology
from xk8s.planning.core_points import SYSCTL_POINT, guest_files
from xk8s.planning.kernel import check_kernel, check_settings, module_files
from xk8s.planning.local_directory import LocalDirectory, is_directory, read_directories
from xk8s.planning.overrides import over_plan
from xk8s.planning.ownership import check_owners
from xk8s.planning.plan import (
    NODE_LAYER,
    Plan,
    PlannedLayer,
    PlannedNode,
    PlannedOverlay,
    layer_digest,
)
from xk8s.planning.points import ROUTE_POINT, collect
from xk8s.planning.proxy import proxy_files
from xk8s.planning.resolve import check_names, provider, resolve, who_provides
from xk8s.util.paths import check_name


def make_plan(request: Request, registry: Registry | None = None, *, online: bool = False) -> Plan:
    """Make the plan of a request. It touches only installed packages and own directories, which it
    reads.

    ``online`` lets overlays that are default choices ask whether they can be downloaded; the
    rest of the plan does not depend on it.

    Raises `UsageError`, `PluginError` or `PlanError`.
    """
    check_name(request.name)
    check_names(request.overlays)
    names = [name for name in request.overlays if not is_directory(name)]
    local = read_directories(
        [name for name in request.overlays if is_directory(name)], request.kept, request.again
    )
    registry = registry or Registry(rules=policy(request))
    settings = Settings(request)
    cluster: ClusterSettings = settings.load("cluster", ClusterSettings)
    settings.load("plugins", PluginSettings)  # the registry goes by it: here just its errors

    def unavailable(name: str) -> str | None:
        overlay = registry.overlay(name)
        own = settings.load(name, overlay.settings) if overlay.settings else None
        return registry.hooks.unavailable(name, own, online=online)

    resolution = resolve(names, registry, unavailable)
    overlays = {name: registry.overlay(name) for name in resolution.overlays}
    installed = frozenset(offer.name for offer in registry.offers)
    settings.check_overlays({**CORE_SETTINGS, **overlays}, installed)
    values = {
        overlay.settings: settings.load(name, overlay.settings)
        for name, overlay in overlays.items()
        if overlay.settings
    }
    ctx = Context(
        cluster=request.name,
        ip_family=cluster.ip_family,
        overlays=(*resolution.overlays, *(directory.name for directory in local)),
        networks=topology.networks(cluster),
        nodes=topology.nodes(cluster),
        all_settings=values,
    )
    ctx = attrs.evolve(ctx, all_fragments=collect(ctx, registry, overlays))
    try:
        base = provider("base", overlays)
    except KeyError:
        raise PlanError(
            "no selected overlay provides a base system",
            hint=who_provides("base", registry),
        ) from None
    facts = registry.hooks.kernel_facts(base, ctx)
    boot = registry.hooks.boot_image(base, ctx)
    if facts is None or boot is None:
        raise PlanError(f"overlay {base!r} provides 'base' but no kernel")
    needs = {
        name: need
        for name in ctx.overlays
        if (need := registry.hooks.kernel(name, ctx)) is not None
    }
    check_kernel(needs, facts)
    layers, own = _layers(ctx, registry, local)
    files = tuple(proxy_files(ctx, cluster, ctx.fragments(ROUTE_POINT, str)))
    nodes = [
        _node(node, ctx, registry, layers, boot, needs, _own_options(cluster), files)
        for node in ctx.nodes
    ]
    plan = Plan(
        ctx=ctx,
        cluster=cluster,
        overlays=(
            *(
                PlannedOverlay(
                    offer=registry.offer(name),
                    summary=overlays[name].summary,
                    asked_by=resolution.asked_by[name],
                )
                for name in resolution.overlays
            ),
            *(_planned(directory) for directory in local),
        ),
        choices=resolution.choices,
        settings=tuple(
            value for value in settings.values() if value.overlay in {"cluster", *overlays}
        ),
        layers=layers,
        directories=over_plan(
            [(layer.overlay, layer.layer) for layer in layers[own:]],
            [(layer.overlay, layer.layer) for layer in layers[:own]],
            {planned.node.name: planned.owners for planned in nodes},
        ),
        nodes=tuple(nodes),
        boot=boot,
        routes=ctx.fragments(ROUTE_POINT, str),
        checks=tuple(check for name in ctx.overlays for check in registry.hooks.checks(name, ctx)),
        guest={
            name: wanted
            for name in ctx.overlays
            if (wanted := registry.hooks.guest(name, ctx)) is not None
        },
        registry=registry,
    )
    _check_routes(plan)
    _check_check_names(plan)
    return plan


def explain(request: Request, key: str, registry: Registry | None = None) -> Value:
    """Return a setting of a request: type, default, value and origin. The overlay need not be one
    of the request's overlays.
    """
    registry = registry or Registry(rules=policy(request))
    overlay, _, field_name = key.partition(".")
    field_name = canonical(field_name)
    settings = Settings(request)
    cls = CORE_SETTINGS.get(overlay) or registry.overlay(overlay).settings
    if cls is None:
        raise UsageError(f"overlay {overlay!r} has no settings")
    settings.load(overlay, cls)
    found = {value.name: value for value in settings.values() if value.overlay == overlay}
    if field_name not in found:
        raise UsageError(
            f"there is no setting {key!r}",
            hint=f"{nearest(field_name, found)}{overlay} has: {', '.join(found)}",
        )
    return found[field_name]


def _layers(
    ctx: Context, registry: Registry, local: Sequence[LocalDirectory]
) -> tuple[tuple[PlannedLayer, ...], int]:
    """Return all layers, lowest first, and how many of them come before those of local
    directories.
    """
    found: dict[str, PlannedLayer] = {}

    def add(name: str, layer: Layer) -> None:
        found[layer.name] = PlannedLayer(overlay=name, layer=layer, digest=layer_digest(layer))

    for name in ctx.overlays:
        for layer in registry.hooks.layers(name, ctx):
            if layer.name in found:
                raise PlanError(
                    f"overlays {found[layer.name].overlay!r} and {name!r} both have a layer "
                    f"{layer.name!r}",
                    hint="layer names begin with their overlay's name",
                )
            add(name, layer)
    check_owners([(planned.overlay, planned.layer) for planned in found.values()])
    count = len(found)
    for directory in local:
        add(directory.name, directory.layer({*found, NODE_LAYER}))
    return tuple(found.values()), count


def _planned(local: LocalDirectory) -> PlannedOverlay:
    return PlannedOverlay(
        offer=Offer(name=local.name, distribution="(local)", version="", value=""),
        summary=f"local directory {local.root}",
        asked_by=("command line",),
    )


def _node(
    node: Node,
    ctx: Context,
    registry: Registry,
    layers: Iterable[PlannedLayer],
    boot: BootImage,
    needs: Mapping[str, KernelNeeds],
    own: BootOptions,
    common: Sequence[File],
) -> PlannedNode:
    files: dict[str, tuple[str, File]] = {}
    given: list[tuple[str, BootOptions]] = []

    def add(overlay: str, file: File) -> None:
        other, _ = files.setdefault(file.path, (overlay, file))
        if other != overlay:
            raise PlanError(
                f"overlays {other!r} and {overlay!r} both write {file.path}",
                where=node.name,
                hint="use a fragment for the file's owner, or a drop-in with another name",
            )

    for file in (*module_files(needs, node.role), *guest_files(ctx, node.role), *common):
        add("cluster", file)
    for name in ctx.overlays:
        for file in registry.hooks.node_files(name, ctx, node):
            add(name, file)
        option = registry.hooks.boot(name, ctx, node)
        if option:
            given.append((name, option))
    check_settings(given, needs, ctx.all_fragments.get(SYSCTL_POINT, ()), node)
    # The user's come last: the last of repeated kernel arguments counts.
    options = [*(option for _, option in given), own]
    kernel_args = [*boot.kernel_args, *(arg for option in options for arg in option.kernel_args)]
    return PlannedNode(
        node=node,
        layers=tuple(p.layer.name for p in layers if node.role in p.layer.roles),
        files=tuple(file for _, (_, file) in sorted(files.items())),
        kernel_args=tuple(kernel_args),
        qemu_args=tuple(arg for option in options for arg in option.qemu_args),
        forwards=tuple(forward for option in options for forward in option.forwards),
        volumes=_volumes(given, node),
        owners={path: overlay for path, (overlay, _) in files.items()},
    )


def _volumes(given: Iterable[tuple[str, BootOptions]], node: Node) -> tuple[Volume, ...]:
    """Return the volumes of a node; `PlanError` when two overlays give one name or path twice."""
    found: dict[str, tuple[str, Volume]] = {}
    for overlay, options in given:
        for volume in options.volumes:
            for key in (volume.name, volume.path):
                if key in found:
                    raise PlanError(
                        f"{found[key][0]} and {overlay} both have a volume {key} on {node.name}",
                        where=node.name,
                        hint="leave one of the overlays out",
                    )
                found[key] = overlay, volume
    return tuple(dict.fromkeys(volume for _, volume in found.values()))


def _own_options(cluster: ClusterSettings) -> BootOptions:
    """Return what the user adds to the start of every VM."""
    try:
        qemu_args = tuple(shlex.split(cluster.qemu_args))
    except ValueError as error:
        raise UsageError(
            f"cluster.qemu_args: {error}",
            hint=f"it is split as a shell would: {cluster.qemu_args!r}",
        ) from error
    # The kernel has quotes of its own, which must reach it.
    return BootOptions(kernel_args=tuple(cluster.kernel_args.split()), qemu_args=qemu_args)


def _check_check_names(plan: Plan) -> None:
    """Raise `PluginError` when two overlays have a check of one name: it is how a check is run and
    reported.
    """
    owners: dict[str, str] = {}
    for name in plan.ctx.overlays:
        for check in plan.registry.hooks.checks(name, plan.ctx):
            if (other := owners.setdefault(check.name, name)) != name:
                raise PluginError(
                    f"overlays {other!r} and {name!r} both have a check {check.name!r}",
                    where=plan.registry.offer(name).where,
                    hint="names of checks begin with their overlay's name",
                )


def _check_routes(plan: Plan) -> None:
    if plan.routes and not plan.ctx.by_role("router"):
        raise PlanError(
            f"{', '.join(plan.routes)} are behind a router, and the cluster has none",
            hint="use --routers 1 or more",
        )


__all__ = [
    "NODE_LAYER",
    "Network",
    "Plan",
    "PlannedLayer",
    "PlannedNode",
    "PlannedOverlay",
    "explain",
    "layer_digest",
    "make_plan",
]
