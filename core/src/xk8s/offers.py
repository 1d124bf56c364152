"""What installed distributions offer to xk8s, and what of it may not be used.

All of this is read from metadata: nothing of a plugin is imported here. `xk8s --help` reads it
too, so this module imports little.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, NamedTuple

from xk8s.errors import PluginError, UsageError, Xk8sError

if TYPE_CHECKING:
    from xk8s.config import Request

OVERLAYS_GROUP = "xk8s.v1"
"""Entry-point group of overlays: the overlay's name = "module"."""

COMMANDS_GROUP = "xk8s.v1.commands"
"""Entry-point group of commands that overlays add: verb = "module:click_command"."""

CORE = ("cluster", "plugins")
"""Settings of the core have these names, so no overlay can."""

CONFIG_FILE = "xk8s.toml"

_KINDS = {OVERLAYS_GROUP: "overlay", COMMANDS_GROUP: "verb"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Offer(NamedTuple):
    """An overlay or verb that is installed: its name, distribution, that one's version, the entry
    point's value; ``refused`` says why it is never imported (empty: it may be), ``denied`` that
    it is so by the user's own list.
    """

    name: str
    distribution: str
    version: str
    value: str
    refused: str = ""
    denied: bool = False

    @property
    def origin(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def where(self) -> str:
        """The same, for errors."""
        return f"distribution {self.origin}"


class Policy(NamedTuple):
    """What the user lets plugins do: ``allow`` are patterns of distributions' names, ``origin``
    says where they are from; ``timeout`` is how many seconds a plugin may take to be imported or
    to answer a hook, 0 for any.
    """

    allow: tuple[str, ...] = ("*",)
    origin: str = "default"
    timeout: float = 60.0

    def allows(self, distribution: str) -> bool:
        """Whether plugins of that distribution may be imported."""
        name = canonical(distribution)
        return any(fnmatchcase(name, canonical(pattern)) for pattern in self.allow)


def canonical(name: str) -> str:
    """A distribution's name as all ways to write it are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def policy(request: Request | None = None) -> Policy:
    """What the user lets plugins do now: the settings ``plugins.…`` of a request, and without one
    (or for one that was kept with a cluster) those of the environment and ./xk8s.toml.

    Raises `UsageError` for a setting that is wrong.
    """
    own = request if request is not None and request.stored is None else None
    sets = tuple(one for one in (own.sets if own else ()) if one.lstrip().startswith("plugins."))
    environment = os.environ if own is None or own.environment is None else own.environment
    file = own.config_file if own else None
    given = sets or any(name.startswith("XK8S_PLUGINS_") for name in environment)
    if not given and not _mentioned(file or Path(CONFIG_FILE)):
        return Policy()
    from xk8s.config import PluginSettings, Request, Settings

    settings = Settings(Request(overlays=(), sets=sets, config_file=file, environment=environment))
    found: PluginSettings = settings.load("plugins", PluginSettings)
    origin = {value.name: value.origin for value in settings.values()}["allow"]
    return Policy(allow=found.allow, origin=origin, timeout=found.timeout)


def _mentioned(path: Path) -> bool:
    """Whether the file may say something of plugins: what is wrong with it others tell."""
    try:
        return "plugins" in tomllib.loads(path.read_text())
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


def careful_policy() -> Policy:
    """As `policy`; where it cannot be known, nothing is allowed, and the reason is its origin."""
    try:
        return policy()
    except Xk8sError as error:
        return Policy(allow=(), origin=f"{error.where}: {error}")


# --- what is offered ----------------------------------------------------------------------


def offered(group: str, rules: Policy) -> tuple[Offer, ...]:
    """All that is offered in a group of entry points, by name and then distribution, with those
    that are refused. Several of one name are refused, each, unless all but one are denied.
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
            names = " and ".join(one.origin for one in rivals)
            who = "two distributions" if len(rivals) == 2 else f"{len(rivals)} distributions"
            offer = offer._replace(refused=f"{who} offer the {kind} {offer.name!r}: {names}")
        result.append(offer)
    return tuple(result)


def by_name(offers: Iterable[Offer]) -> dict[str, Offer]:
    """One offer for each name: the one that may be used, else one that says why none may be."""
    found: dict[str, Offer] = {}
    for offer in sorted(offers, key=lambda one: (one.name, bool(one.refused), one.denied)):
        found.setdefault(offer.name, offer)
    return found


def refusal(offer: Offer) -> Xk8sError:
    """The error for a refused offer that somebody wants to use."""
    if offer.denied:
        return UsageError(
            f"{offer.name!r} may not be used: {offer.refused}",
            where=offer.where,
            hint="add it to plugins.allow if you trust it: plugins are programs that run as you",
        )
    return PluginError(
        offer.refused,
        where=offer.where,
        hint="uninstall one of them, or name only one of them in plugins.allow"
        if "offer the" in offer.refused
        else f"uninstall {offer.distribution}, or ask its makers for another name",
    )


@functools.cache
def builtin_verbs() -> frozenset[str]:
    """Verbs of the core: each is a module of that package, of which none is imported here."""
    from xk8s.cli import verbs

    return frozenset(module.name for module in iter_modules(verbs.__path__))


def _judged(offer: Offer, kind: str, rules: Policy) -> Offer:
    if not rules.allows(offer.distribution):
        why = f"{offer.distribution} is not in plugins.allow ({rules.origin})"
        return offer._replace(refused=why, denied=True)
    why = ""
    if offer.name in builtin_verbs():
        why = f"{offer.origin} offers the {kind} {offer.name!r}, which is a verb of xk8s itself"
    elif kind == "overlay" and offer.name in CORE:
        why = f"{offer.origin} offers the overlay {offer.name!r}: settings of xk8s have that name"
    elif not _NAME.fullmatch(offer.name):
        why = f"{offer.origin} offers the {kind} {offer.name!r}, which is no name"
    return offer._replace(refused=why)


def _offers(group: str) -> Iterator[Offer]:
    for name, version, points in _distributions():
        for point in points:
            if point.group == group:
                yield Offer(name=point.name, distribution=name, version=version, value=point.value)


def _distributions() -> Iterator[tuple[str, str, Iterable[EntryPoint]]]:
    """Name, version and entry points, of one name the one that Python would import. One whose
    metadata cannot be read has no part in this, and must not take all others with it.
    """
    seen: set[str] = set()
    for distribution in distributions():
        try:
            metadata: Mapping[str, str] = distribution.metadata  # type: ignore[assignment]
            name, version = metadata["Name"] or "(unknown)", metadata["Version"] or ""
            points = distribution.entry_points
        except Exception:  # noqa: S112 - whatever is wrong with it
            continue
        if canonical(name) not in seen:
            seen.add(canonical(name))
            yield name, version, points
