"""Overlays as installed distributions: found by entry point, loaded when selected.

Listing reads metadata only. Every value is attributed to the plugin it came from, so that an
error names the distribution that must be mended.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy
from attrs import frozen

from xk8s import hookspecs
from xk8s.errors import PluginError, UsageError, Xk8sError
from xk8s.overlay import Overlay
from xk8s.suggest import nearest

T = TypeVar("T")


@frozen(kw_only=True, order=True)
class Offer:
    """An overlay that is installed: name, distribution, its version, entry point value."""

    name: str
    distribution: str
    version: str
    value: str


def available() -> tuple[Offer, ...]:
    """All installed overlays by name; imports no plugin.

    Raises `PluginError` when two distributions offer one name.
    """
    offers: dict[str, Offer] = {}
    for point in entry_points(group=hookspecs.ENTRY_POINT_GROUP):
        offer = _offer(point)
        other = offers.setdefault(offer.name, offer)
        if other != offer:
            raise PluginError(
                f"two distributions offer the overlay {offer.name!r}: "
                f"{other.distribution} and {offer.distribution}",
                hint="uninstall one of them",
            )
    return tuple(sorted(offers.values()))


def _offer(point: EntryPoint) -> Offer:
    dist = point.dist
    return Offer(
        name=point.name,
        distribution=dist.name if dist else "(unknown)",
        version=dist.version if dist else "",
        value=point.value,
    )


class Registry:
    """The plugins loaded so far. Calls return values with the overlay that gave them."""

    def __init__(self, extra: dict[str, object] | None = None) -> None:
        """``extra`` maps overlay names to plugin objects, beside the installed ones."""
        self._manager = pluggy.PluginManager("xk8s")
        self._manager.add_hookspecs(hookspecs)
        self._extra = dict(extra or {})
        self._offers = {offer.name: offer for offer in available()}
        for name in self._extra:
            self._offers[name] = Offer(name=name, distribution="(local)", version="", value="")
        self._overlays: dict[str, Overlay] = {}

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What can be loaded, by name."""
        return tuple(sorted(self._offers.values()))

    def offer(self, name: str) -> Offer:
        """The offer of that name, or `UsageError` with the nearest name."""
        try:
            return self._offers[name]
        except KeyError:
            hint = f"{nearest(name, self._offers)}`xk8s overlays` lists what is installed"
            if os.path.isdir(name):  # noqa: PTH112 - whatever the name is, no error
                hint = f"the directory of that name here is ./{name}"
            raise UsageError(f"there is no overlay {name!r}", hint=hint) from None

    def overlay(self, name: str) -> Overlay:
        """What the overlay says of itself; loads its plugin on the first call."""
        if name in self._overlays:
            return self._overlays[name]
        offer = self.offer(name)
        plugin = self._extra.get(name) or _load(offer)
        _check_hooks(plugin, offer, self._manager)
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"overlay {name!r}: {error}", where=_where(offer)) from error
        values = self._call(name, "xk8s_overlay")
        if not isinstance(values, Overlay):
            raise PluginError(
                f"overlay {name!r}: xk8s_overlay must return an Overlay, not {values!r}",
                where=_where(offer),
            )
        self._overlays[name] = values
        return values

    def one(self, name: str, hook: str, kind: type[T], **arguments: Any) -> T | None:
        """The value of a hook of one overlay, or None where it does not implement it."""
        value = self._call(name, hook, **arguments)
        if value is not None and not isinstance(value, kind):
            raise self._rubbish(name, hook, kind, value)
        return value

    def many(self, name: str, hook: str, kind: type[T], **arguments: Any) -> tuple[T, ...]:
        """The values of a hook that returns an iterable, for one overlay."""
        values = self._call(name, hook, **arguments)
        if values is None:
            return ()
        if not isinstance(values, tuple):
            raise self._rubbish(name, hook, kind, values)
        for value in values:
            if not isinstance(value, kind):
                raise self._rubbish(name, hook, kind, value)
        return values

    def _call(self, name: str, hook: str, **arguments: Any) -> Any:
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            if impl.plugin_name == name:
                return self._guarded(name, hook, impl.function, impl.argnames, arguments)
        return None

    def _guarded(
        self,
        name: str,
        hook: str,
        function: Callable[..., Any],
        argnames: Iterable[str],
        arguments: dict[str, Any],
    ) -> Any:
        try:
            value = function(**{arg: arguments[arg] for arg in argnames})
            # A generator's body runs here, so that its errors are attributed as well.
            is_list = isinstance(value, list) or inspect.isgenerator(value)
            return tuple(value) if is_list else value
        except Xk8sError as error:
            error.where = error.where or f"overlay {name}"
            raise
        except Exception as error:
            raise PluginError(
                f"overlay {name!r}: {hook} raised {type(error).__name__}: {error}",
                where=_where(self._offers[name]),
                hint="report it to the makers of that distribution",
            ) from error

    def _rubbish(self, name: str, hook: str, kind: type[Any], value: object) -> PluginError:
        return PluginError(
            f"overlay {name!r}: {hook} returned {value!r:.80}, not {kind.__name__}",
            where=_where(self._offers[name]),
        )


def _load(offer: Offer) -> object:
    for point in entry_points(group=hookspecs.ENTRY_POINT_GROUP, name=offer.name):
        try:
            plugin: object = point.load()
        except Exception as error:
            raise PluginError(
                f"overlay {offer.name!r} cannot be imported: {type(error).__name__}: {error}",
                where=_where(offer),
                hint=f"reinstall or remove {offer.distribution}",
            ) from error
        return plugin
    raise UsageError(f"there is no overlay {offer.name!r}")


def _check_hooks(plugin: object, offer: Offer, manager: pluggy.PluginManager) -> None:
    """A function named like a hook but not marked is silently ignored by pluggy: say so."""
    for attribute in dir(plugin):
        if not attribute.startswith("xk8s_"):
            continue
        if manager.parse_hookimpl_opts(plugin, attribute) is None and callable(
            getattr(plugin, attribute)
        ):
            raise PluginError(
                f"overlay {offer.name!r}: {attribute} lacks @hookimpl", where=_where(offer)
            )


def _where(offer: Offer) -> str:
    return f"distribution {offer.distribution} {offer.version}".rstrip()
