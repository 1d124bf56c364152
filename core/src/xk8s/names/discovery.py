"""What installed distributions offer to xk8s, and which of it may not be used.

All of this is read from metadata: nothing of a plugin is imported here. `xk8s --help` reads it
too, so this module imports little.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

import xk8s
from xk8s.errors import PluginError, UsageError, Xk8sError
from xk8s.names.allow_list import Policy, canonical
from xk8s.names.versions import core_requirement, core_version, is_met

OVERLAYS_GROUP = "xk8s.v1"
"""Entry-point group of overlays: the overlay's name = "module"."""

COMMANDS_GROUP = "xk8s.v1.commands"
"""Entry-point group of commands that overlays add: verb = "module:click_command"."""

CORE = ("cluster", "plugins")
"""Settings of the core have these names, so no overlay can."""


_KINDS = {OVERLAYS_GROUP: "overlay", COMMANDS_GROUP: "verb"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Offer(NamedTuple):
    """An overlay or verb that is installed: its name, distribution and version, and the entry
    point's value; ``refused`` says why it is never imported (empty if it may be), ``todo`` what to
    do about that, ``denied`` that the user's own list is the reason. ``core`` is what the
    distribution requires of the version of xk8s, as ``>=0.1``.
    """

    name: str
    distribution: str
    version: str
    value: str
    refused: str = ""
    todo: str = ""
    denied: bool = False
    core: str = ""

    @property
    def mixed(self) -> bool:
        """Whether it belongs to another version of xk8s than the one that is installed."""
        return self.core.startswith("==") and not is_met(self.core, core_version())

    @property
    def origin(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def where(self) -> str:
        """The same, for errors."""
        return f"distribution {self.origin}"


# --- what is offered ----------------------------------------------------------------------


def offered(group: str, rules: Policy) -> tuple[Offer, ...]:
    """Return everything offered in a group of entry points, by name and then distribution,
    including what is refused. Several offers of one name are all refused, unless all but one are
    denied.
    """
    kind = _KINDS[group]
    found = [_judged(offer, kind, rules) for offer in sorted(set(_offers(group)))]
    usable: dict[str, list[Offer]] = {}
    for offer in found:
        if not offer.refused:
            usable.setdefault(offer.name, []).append(offer)
    result = []
    for offer in found:
        rivals = usable.get(offer.name, [])
        if not offer.refused and len(rivals) > 1:
            names = " and ".join(rival.origin for rival in rivals)
            who = "two distributions" if len(rivals) == 2 else f"{len(rivals)} distributions"
            offer = offer._replace(
                refused=f"{who} offer the {kind} {offer.name!r}: {names}",
                todo="uninstall one of them, or name only one of them in plugins.allow",
            )
        result.append(offer)
    return tuple(result)


def by_name(offers: Iterable[Offer]) -> dict[str, Offer]:
    """Return one offer for each name: the one that may be used, or else one that says why none may
    be.
    """
    found: dict[str, Offer] = {}
    for offer in sorted(offers, key=lambda offer: (offer.name, bool(offer.refused), offer.denied)):
        found.setdefault(offer.name, offer)
    return found


def check_mixture(offers: Iterable[Offer]) -> None:
    """Raise `PluginError` for overlays that belong to another version of xk8s, used or not: which
    overlays are used is found out by asking all of them.
    """
    mixed = {offer.distribution: offer for offer in offers if offer.mixed and not offer.denied}
    if not mixed:
        return
    core, names = core_version(), ", ".join(offer.origin for offer in mixed.values())
    same = " ".join(f"{name}=={core}" for name in mixed)
    raise PluginError(
        f"different versions are installed together: xk8s {core} and {names}",
        where="installed distributions",
        hint=f"install one version of all, e.g. pip install {same}; in a clone: ./run true",
    )


def refusal(offer: Offer) -> Xk8sError:
    """Return the error for a refused offer that somebody wants to use."""
    if offer.denied:
        text = f"{offer.name!r} may not be used: {offer.refused}"
        return UsageError(text, where=offer.where, hint=offer.todo)
    return PluginError(offer.refused, where=offer.where, hint=offer.todo)


@functools.cache
def builtin_verbs() -> frozenset[str]:
    """Return the verbs of the core: each is a module of that package; none is imported here."""
    # By path: the command line stands above this module and is not imported for its names.
    directory = Path(xk8s.__file__).parent / "cli" / "verbs"
    return frozenset(module.name for module in iter_modules([str(directory)]))


def _judged(offer: Offer, kind: str, rules: Policy) -> Offer:
    if not rules.allows(offer.distribution):
        return offer._replace(
            refused=f"{offer.distribution} is not in plugins.allow ({rules.origin})",
            todo="add it there if you trust it: plugins are programs that run as you",
            denied=True,
        )
    if not is_met(offer.core, core_version()):
        return offer._replace(
            refused=f"{offer.origin} requires xk8s{offer.core}, but {core_version()} is installed",
            todo=f"install versions of xk8s and {offer.distribution} that belong together",
        )
    why = ""
    if offer.name in builtin_verbs():
        why = "which is a verb of xk8s itself"
    elif kind == "overlay" and offer.name in CORE:
        why = "and settings of xk8s itself have that name"
    elif not _NAME.fullmatch(offer.name):
        why = "which is not a valid name"
    if not why:
        return offer
    return offer._replace(
        refused=f"{offer.origin} offers the {kind} {offer.name!r}, {why}",
        todo=f"uninstall {offer.distribution}, or ask its authors for another name",
    )


def _offers(group: str) -> Iterator[Offer]:
    known: dict[Distribution | None, tuple[str, str, str]] = {}
    for point in _points(group):
        # Each look at its metadata parses all of it: one for a distribution with several points.
        if point.dist not in known:
            known[point.dist] = _about(point.dist)
        distribution, version, core = known[point.dist]
        yield Offer(
            name=point.name,
            distribution=distribution,
            version=version,
            value=point.value,
            core=core,
        )


def _about(distribution: Distribution | None) -> tuple[str, str, str]:
    """Return a distribution's name, version, and requirement for the version of xk8s."""
    if distribution is None:
        return "(unknown)", "", ""
    metadata = distribution.metadata
    requirements = metadata.get_all("Requires-Dist") or ()
    name, version = metadata["Name"] or "(unknown)", metadata["Version"] or ""
    return name, version, core_requirement(requirements)


def _points(group: str) -> Iterable[EntryPoint]:
    """Return all entry points of a group; if distributions have the same name, those of the one
    that Python would import.
    """
    try:
        return entry_points(group=group)
    except Exception:  # somebody's metadata cannot be read: that must not take all others along
        return _readable_points(group)


def _readable_points(group: str) -> Iterator[EntryPoint]:
    seen: set[str] = set()
    for distribution in distributions():
        try:
            name, points = canonical(distribution.name), distribution.entry_points
        except Exception:  # noqa: S112 - whatever is wrong with it
            continue
        if name not in seen:
            seen.add(name)
            yield from points.select(group=group)
