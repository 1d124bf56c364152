"""Resolution: from the names on the command line to all overlays, in order.

The order follows from requires, provides and after alone (names break ties), never from the order
in which plugins were found or named.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from xk8s.errors import PlanError, UsageError, Xk8sError, nearest
from xk8s.names.advice import about_missing
from xk8s.names.registry import Registry
from xk8s.overlay import Overlay


@frozen(kw_only=True)
class Choice:
    """A capability for which nobody named a provider: what was chosen, and why."""

    capability: str
    chosen: str
    reason: str


@frozen(kw_only=True)
class Resolution:
    """The overlays in order, who asked for each ("command line" or overlay names), and the
    choices.
    """

    overlays: tuple[str, ...]
    asked_by: Mapping[str, tuple[str, ...]]
    choices: tuple[Choice, ...]


Unavailable = Callable[[str], str | None]
"""Function that returns why an overlay cannot be a default choice here, or None."""


def resolve(names: Sequence[str], registry: Registry, unavailable: Unavailable) -> Resolution:
    """Close ``names`` over requirements and sort them.

    Raises `UsageError` for an unknown name, `PlanError` for a missing capability, a conflict,
    two providers of one capability, or a cycle.
    """
    selected: dict[str, Overlay] = {}
    asked_by: dict[str, list[str]] = {}
    choices: list[Choice] = []

    def add(name: str, asker: str) -> None:
        askers = asked_by.setdefault(name, [])
        if asker not in askers:
            askers.append(asker)
        if name not in selected:
            selected[name] = registry.overlay(name)

    for name in dict.fromkeys(names):
        add(name, "command line")
    # Plain requirements first, so that a capability is left to a default only when no overlay,
    # however far down, brings a provider by itself.
    while True:
        missing = _missing(selected)
        if not missing:
            break
        plain = [(asker, need) for asker, need in missing if _is_overlay(need, registry)]
        if plain:
            for asker, need in plain:
                add(need, asker)
            continue
        asker, need = missing[0]
        choice = _choose(need, selected, registry, unavailable)
        if choice is None:
            raise PlanError(
                f"overlay {asker!r} needs {need!r} and no selected overlay provides it",
                hint=who_provides(need, registry),
            )
        choices.append(choice)
        add(choice.chosen, asker)

    _check_conflicts(selected)
    return Resolution(
        overlays=_sorted(selected),
        asked_by={name: tuple(askers) for name, askers in asked_by.items()},
        choices=tuple(choices),
    )


def provided(name: str, overlay: Overlay) -> frozenset[str]:
    """Return everything that an overlay provides: its capabilities and its own name."""
    return frozenset(overlay.provides) | {name}


def provider(capability: str, overlays: Mapping[str, Overlay]) -> str:
    """Return the overlay that provides a capability; KeyError if there is none."""
    for name, overlay in overlays.items():
        if capability in provided(name, overlay):
            return name
    raise KeyError(capability)


def _missing(selected: Mapping[str, Overlay]) -> list[tuple[str, str]]:
    have = {
        capability for name, overlay in selected.items() for capability in provided(name, overlay)
    }
    return [
        (name, need)
        for name, overlay in sorted(selected.items())
        for need in (*overlay.requires, *overlay.completed_by)
        if need not in have
    ]


def _is_overlay(need: str, registry: Registry) -> bool:
    return any(offer.name == need for offer in registry.offers)


def _choose(
    capability: str, selected: Mapping[str, Overlay], registry: Registry, unavailable: Unavailable
) -> Choice | None:
    candidates = list(
        dict.fromkeys(
            candidate
            for _, overlay in sorted(selected.items())
            for candidate in overlay.defaults.get(capability, ())
        )
    )
    refused = []
    for candidate in candidates:
        if not _is_overlay(candidate, registry):
            refused.append(f"{candidate}: not installed")
            continue
        offer = registry.offer(candidate)
        reason = offer.refused if offer.denied else unavailable(candidate)
        if reason is None:
            why = "; ".join(refused) if refused else "the default"
            return Choice(capability=capability, chosen=candidate, reason=why)
        refused.append(f"{candidate}: {reason}")
    if refused:
        raise PlanError(
            f"none of the default overlays for {capability!r} is available here",
            where="; ".join(refused),
        )
    only = _installed_providers(capability, registry)
    if len(only) == 1:
        return Choice(capability=capability, chosen=only[0], reason="the only one installed")
    return None


def _installed_providers(capability: str, registry: Registry) -> list[str]:
    names = []
    for offer in registry.offers:
        try:
            if capability in registry.overlay(offer.name).provides:
                names.append(offer.name)
        except Xk8sError:
            continue  # a broken plugin that nobody selected must not hide the real error
    return names


def who_provides(need: str, registry: Registry) -> str:
    """Return what to do for want of a capability: which overlay to name, or what to install."""
    if names := _installed_providers(need, registry):
        return f"name one of: {', '.join(names)}"
    known = [offer.name for offer in registry.offers]
    return f"{nearest(need, known)}{about_missing(need)}"


def _check_conflicts(selected: Mapping[str, Overlay]) -> None:
    providers: dict[str, str] = {}
    for name, overlay in sorted(selected.items()):
        for capability in overlay.provides:
            other = providers.setdefault(capability, name)
            if other != name:
                raise PlanError(
                    f"overlays {other!r} and {name!r} both provide {capability!r}",
                    hint=f"name only one of them: {other} or {name}",
                )
    for name, overlay in sorted(selected.items()):
        for other, other_overlay in sorted(selected.items()):
            if other != name and provided(other, other_overlay) & set(overlay.conflicts):
                raise PlanError(
                    f"overlays {name!r} and {other!r} conflict", hint="leave one of them out"
                )


def _sorted(selected: Mapping[str, Overlay]) -> tuple[str, ...]:
    by_capability: dict[str, str] = {}
    for name, overlay in selected.items():
        for capability in provided(name, overlay):
            by_capability[capability] = name
    graph: dict[str, set[str]] = {}
    for name, overlay in selected.items():
        before = {
            by_capability[capability]
            for capability in (*overlay.requires, *overlay.after)
            if capability in by_capability
        }
        graph[name] = before - {name}
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " → ".join(str(name) for name in error.args[1])
        raise PlanError(f"overlays require each other in a cycle: {circle}") from error
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order.extend(ready)
        sorter.done(*ready)
    return tuple(order)


def check_names(names: Sequence[str]) -> None:
    """Raise `UsageError` if no overlay is named at all."""
    if not names:
        raise UsageError(
            "no overlay is named",
            hint="try: xk8s up kubernetes coredns externalip (`xk8s overlays` lists them)",
        )
