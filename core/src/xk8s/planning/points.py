"""Named points: what overlays contribute to each other, collected and verified while a plan is
made.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

import attrs

from xk8s.context import Context
from xk8s.errors import PluginError, Xk8sError, nearest
from xk8s.names.registry import Registry
from xk8s.overlay import Fragment, Overlay, Point
from xk8s.planning.contradictions import check_values
from xk8s.planning.core_points import DROPIN_POINT, DROPINS, SYSCTL_POINT, SYSCTLS
from xk8s.planning.proxy import NO_PROXY, NO_PROXY_POINT
from xk8s.util import typecheck

CORE = "cluster"
"""First part of the names of the core's points."""

ROUTE_POINT = "cluster.route"


def _prefix(value: str) -> Mapping[str, str]:
    ipaddress.ip_network(value)
    return {}


CORE_POINTS: Mapping[str, Point] = {
    ROUTE_POINT: Point(
        type=str,
        help="A prefix behind the first router: the cluster's network namespace, where "
        "clients are, sends it there.",
        example="10.0.0.0/24",
        sets=_prefix,
    ),
    SYSCTL_POINT: SYSCTLS,
    DROPIN_POINT: DROPINS,
    NO_PROXY_POINT: NO_PROXY,
}
"""The points that no overlay owns."""


def collect(
    ctx: Context, registry: Registry, overlays: Mapping[str, Overlay]
) -> Mapping[str, tuple[Fragment, ...]]:
    """Collect the fragments of all selected ``overlays`` by point, in the order of overlays.

    A fragment for a point of an overlay that is not selected is ignored. `PluginError` names the
    overlay whose fragment has an unknown point or a value that the point does not take; `PlanError`
    names two that set one thing to different values.
    """
    points: dict[str, Mapping[str, Point]] = {CORE: CORE_POINTS}
    for name, overlay in overlays.items():
        points[name] = _own(registry, name, overlay)
    found: dict[str, list[Fragment]] = {}
    for name in overlays:
        for fragment in registry.hooks.fragments(name, ctx):
            owner = fragment.point.partition(".")[0]
            if owner in points:
                _check_point(registry, name, fragment.point, points[owner])
            else:
                _check_absent(registry, name, overlays[name], fragment.point)
            found.setdefault(fragment.point, []).append(attrs.evolve(fragment, overlay=name))
    for owner in points:
        for point, about in points[owner].items():
            values = _values(registry, about, found.get(point, []))
            check_values(values, where=f"fragments of {point}")
    return {point: tuple(fragments) for point, fragments in sorted(found.items())}


def _own(registry: Registry, name: str, overlay: Overlay) -> Mapping[str, Point]:
    for point, about in overlay.points.items():
        if not isinstance(about, Point):
            raise PluginError(
                f"overlay {name!r}: what it declares for its point {point!r} is "
                f"{typecheck.shown(about)}, not a Point",
                where=registry.offer(name).where,
            )
        if not point.startswith(f"{name}."):
            raise PluginError(
                f"overlay {name!r}: its point {point!r} does not begin with {name + '.'!r}",
                where=registry.offer(name).where,
            )
    return overlay.points


def _check_point(registry: Registry, name: str, point: str, known: Mapping[str, Point]) -> None:
    if point not in known:
        owner = point.partition(".")[0]
        raise PluginError(
            f"overlay {name!r}: there is no point {point!r} for its fragment",
            where=registry.offer(name).where,
            hint=f"{nearest(point, known)}points of {owner}: {', '.join(known) or 'none'}",
        )


def _check_absent(registry: Registry, name: str, overlay: Overlay, point: str) -> None:
    """Check a point whose owner is not selected: it is fine if such an overlay may exist."""
    owner = point.partition(".")[0]
    installed = {offer.name for offer in registry.offers}
    if owner in installed or owner in (*overlay.after, *overlay.requires):
        return
    raise PluginError(
        f"overlay {name!r}: there is no point {point!r} for its fragment: no overlay {owner!r} "
        "is installed",
        where=registry.offer(name).where,
        hint=f"{nearest(owner, [*installed, CORE])}if {owner!r} may be missing, say "
        f"Overlay(after=({owner!r},))",
    )


def _values(
    registry: Registry, about: Point, fragments: list[Fragment]
) -> Iterator[tuple[str, str, object]]:
    for fragment in fragments:
        if problem := typecheck.problem(fragment.value, about.type):
            raise _unfit(registry, fragment, f"its value: {problem}", about)
        for thing, value in _sets(registry, fragment, about):
            yield fragment.overlay, thing, value


def _sets(registry: Registry, fragment: Fragment, about: Point) -> Iterator[tuple[str, object]]:
    if about.sets is None:
        return
    try:
        found = about.sets(fragment.value)
    except (ValueError, Xk8sError) as error:
        raise _unfit(registry, fragment, str(error), about) from error
    except Exception as error:
        owner = fragment.point.partition(".")[0]
        raise PluginError(
            f"overlay {owner!r}: its point {fragment.point} raised {type(error).__name__}: {error}",
            where=f"a fragment of overlay {fragment.overlay!r}"
            + (f"; {registry.offer(owner).where}" if owner != CORE else ""),
        ) from error
    yield from found.items()


def _unfit(registry: Registry, fragment: Fragment, what: str, about: Point) -> PluginError:
    return PluginError(
        f"overlay {fragment.overlay!r}: a fragment of {fragment.point} is wrong: {what}",
        where=registry.offer(fragment.overlay).where,
        hint=f"such as {about.example!r:.200}",
    )
