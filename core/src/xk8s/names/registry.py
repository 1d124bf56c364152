"""Overlays as installed distributions: found by entry point, loaded when selected.

Listing reads metadata only. Every value is attributed to the plugin it came from, so that an
error names the distribution that has to be fixed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint
from pathlib import PurePosixPath
from typing import Any, TypeVar

import attrs
import pluggy

from xk8s import hookspecs
from xk8s.checks import CheckContext, NotYet
from xk8s.errors import PluginError, UsageError, nearest
from xk8s.names import value_rules
from xk8s.names.advice import about_mistake
from xk8s.names.allow_list import Policy, policy
from xk8s.names.call import guarded
from xk8s.names.discovery import (
    OVERLAYS_GROUP,
    Offer,
    by_name,
    check_mixture,
    offered,
    refusal,
)
from xk8s.names.hooks import Hooks
from xk8s.overlay import Check, File, Overlay
from xk8s.util import typecheck
from xk8s.util.guest_paths import guest_path

T = TypeVar("T")

_ACT = frozenset({"xk8s_apply", "xk8s_leave"})
"""Hooks that act on a running cluster as long as that takes: no limit ends them half-way."""

_IN_GUEST = frozenset({"xk8s_node_files", "xk8s_secrets"})
"""Hooks whose files end up in guests; those of layers are checked with the whole stack."""


def available(rules: Policy | None = None) -> tuple[Offer, ...]:
    """Return all installed overlays by name, including refused ones; imports no plugin."""
    return offered(OVERLAYS_GROUP, policy() if rules is None else rules)


class Registry:
    """The plugins loaded so far. Calls return values with the overlay that they came from."""

    def __init__(self, extra: dict[str, object] | None = None, rules: Policy | None = None) -> None:
        """``extra`` maps overlay names to plugin objects, beside the installed ones. ``rules`` say
        what plugins may do; None: what `xk8s.names.allow_list.policy` says.
        """
        self._manager = pluggy.PluginManager("xk8s")
        self._manager.add_hookspecs(hookspecs)
        self._extra = dict(extra or {})
        self._rules = policy() if rules is None else rules
        installed = available(self._rules)
        check_mixture(installed)
        self._offers = by_name(installed)
        for name in self._extra:
            self._offers[name] = Offer(name=name, distribution="(local)", version="", value="")
        self._overlays: dict[str, Overlay] = {}
        self.hooks = Hooks(self)

    @property
    def offers(self) -> tuple[Offer, ...]:
        """Everything installed, by name; some may be refused."""
        return tuple(sorted(self._offers.values()))

    def offer(self, name: str) -> Offer:
        """Return the offer of that name, or raise `UsageError` with the closest name."""
        try:
            return self._offers[name]
        except KeyError:
            hint = f"{nearest(name, self._offers)}`xk8s overlays` lists what is installed"
            if os.path.isdir(name):  # noqa: PTH112 - whatever the name is, no error
                hint = f"to use the directory of that name here, write ./{name}"
            raise UsageError(f"there is no overlay {name!r}", hint=hint) from None

    def overlay(self, name: str) -> Overlay:
        """Return what the overlay says about itself; loads its plugin on the first call. Raises
        `PluginError` if that fails, `UsageError` if the user denies it.
        """
        if name in self._overlays:
            return self._overlays[name]
        offer = self.offer(name)
        if offer.refused:
            raise refusal(offer)
        self._guarded(offer, "", lambda: self._load(offer))
        values = self.hooks.overlay(name)
        if values is None:
            raise PluginError(f"overlay {name!r} has no xk8s_overlay", where=offer.where)
        self._check_settings(offer, values.settings)
        self._overlays[name] = values
        return values

    def call_one(self, overlay: str, hook: str, kind: type[T], **arguments: Any) -> T | None:
        """Return the value of a hook, or None where the overlay does not implement it. Use
        `hooks`, whose methods are typed.
        """
        value = self._call(overlay, hook, arguments)
        if value is not None:
            self._check(overlay, hook, kind, value)
        return value  # type: ignore[no-any-return]

    def call_many(self, overlay: str, hook: str, kind: type[T], **arguments: Any) -> tuple[T, ...]:
        """Return the values of a hook that returns an iterable. Use `hooks`."""
        values = self._call(overlay, hook, arguments, many=True)
        if values is None:
            return ()
        if not isinstance(values, tuple):
            raise self._rubbish(overlay, hook, f"{typecheck.shown(values)}, not {kind.__name__}s")
        for value in values:
            self._check(overlay, hook, kind, value)
        self._check_names(overlay, hook, values)
        return tuple(self._its(overlay, value) for value in values)

    def _load(self, offer: Offer) -> None:
        """Import a plugin and make its hooks known."""
        plugin = self._extra.get(offer.name)
        if plugin is None:
            plugin = EntryPoint(offer.name, offer.value, OVERLAYS_GROUP).load()
        _check_hooks(plugin, offer, self._manager)
        try:
            self._manager.register(plugin, offer.name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            self._manager.unregister(name=offer.name)
            raise PluginError(f"overlay {offer.name!r}: {error}", where=offer.where) from error

    def _call(
        self, name: str, hook: str, arguments: Mapping[str, Any], *, many: bool = False
    ) -> Any:
        impls = getattr(self._manager.hook, hook).get_hookimpls()
        impl = next((impl for impl in impls if impl.plugin_name == name), None)
        if impl is None:
            return None
        wanted = {argument: arguments[argument] for argument in impl.argnames}
        return self._guarded(
            self._offers[name], hook, lambda: _value(impl.function(**wanted), many)
        )

    def _guarded(self, offer: Offer, hook: str, function: Callable[[], T]) -> T:
        return guarded(
            function,
            offer=offer,
            what=f"overlay {offer.name!r}",
            doing=hook,
            limit=0 if hook in _ACT else self._rules.timeout,
        )

    def _check(self, name: str, hook: str, kind: type[Any], value: object) -> None:
        """Raise `PluginError` unless the value is what the hook promises."""
        if not isinstance(value, kind):
            raise self._rubbish(name, hook, f"{typecheck.shown(value)}, not {kind.__name__}")
        if problem := typecheck.problem(value, kind):
            raise self._rubbish(name, hook, f"a {kind.__name__} whose {problem}")
        if problem := value_rules.problem(value):
            raise self._rubbish(name, hook, f"{_named(value)} whose {problem}")
        if isinstance(value, File):
            try:
                if hook in _IN_GUEST:
                    if not guest_path(value.path).parts:
                        raise ValueError("'/' is a directory")
                elif hook == "xk8s_host_files":
                    _host_path(value.path)
            except ValueError as error:
                raise self._rubbish(name, hook, f"a File: {error}") from None

    def _check_names(self, name: str, hook: str, values: Iterable[object]) -> None:
        """Raise `PluginError` when two values of one hook have the same name."""
        if problem := value_rules.duplicate(values):
            raise self._rubbish(name, hook, problem)

    def _its(self, name: str, value: Any) -> Any:
        """Return a value whose functions are attributed to the overlay: they are called
        much later.
        """
        if not isinstance(value, Check) or not callable(value.run):
            return value
        offer, run, explain = self._offers[name], value.run, value.explain
        changes: dict[str, Any] = {"run": _attributed(run, offer, value.name, str)}
        if explain is not None:
            changes["explain"] = _attributed(explain, offer, value.name, str)
        return attrs.evolve(value, **changes)

    def _check_settings(self, offer: Offer, cls: type[Any] | None) -> None:
        if cls is None:
            return
        what = f"an Overlay whose settings {typecheck.shown(cls)}"
        if not attrs.has(cls):
            raise self._rubbish(offer.name, "xk8s_overlay", f"{what} are not an attrs class")
        try:
            attrs.resolve_types(cls)
        except NameError as error:
            # Names imported for type checkers alone do not exist when values are read.
            text = f"{what} have a type that does not exist at run time: {error}"
            raise self._rubbish(offer.name, "xk8s_overlay", text) from error

    def _rubbish(self, name: str, hook: str, what: str) -> PluginError:
        offer = self._offers[name]
        return PluginError(
            f"overlay {name!r}: {hook} returned {what}",
            where=offer.where,
            hint=about_mistake(offer, hook),
        )


def _named(value: object) -> str:
    """Return how a value is called in an error: with its name, if it has one."""
    name = getattr(value, "name", None) or getattr(value, "path", None)
    return f"a {type(value).__name__}" + (f" {name!r}" if name else "")


def _value(value: Any, many: bool) -> Any:
    """Return an iterable as a tuple: a generator's body runs here, so that its errors are
    attributed as well. Sets are refused, because their order changes each time.
    """
    if many and isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, set)):
        return tuple(value)
    return value


def _attributed(
    function: Callable[[CheckContext], Any], offer: Offer, check: str, kind: type[Any]
) -> Callable[[CheckContext], Any]:
    """Wrap a check's function so that its errors (except those that a check may raise) name its
    overlay.
    """

    @functools.wraps(function)
    def call(context: CheckContext) -> Any:
        seen: list[NotYet] = []

        def run() -> Any:
            try:
                return function(context)
            except NotYet as error:
                seen.append(error)
                return ""

        # A check has a limit of its own for all of its tries.
        what = f"overlay {offer.name!r}"
        found = guarded(run, offer=offer, what=what, doing=f"check {check!r}", limit=0)
        if seen:
            raise seen[0]
        if not isinstance(found, kind):
            raise PluginError(
                f"{what}: check {check!r} returned {typecheck.shown(found)}, not {kind.__name__}",
                where=offer.where,
            )
        return found

    return call


def _host_path(path: str) -> None:
    """Raise ValueError for a path outside of the cluster's directory."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError(f"{path!r} is not a path below the cluster's state directory")


def _check_hooks(plugin: object, offer: Offer, manager: pluggy.PluginManager) -> None:
    """Raise an error for a function named like a hook but not marked: pluggy silently
    ignores it.
    """
    for attribute in dir(plugin):
        if not attribute.startswith("xk8s_"):
            continue
        if manager.parse_hookimpl_opts(plugin, attribute) is None and callable(
            getattr(plugin, attribute)
        ):
            raise PluginError(
                f"overlay {offer.name!r}: {attribute} lacks @hookimpl", where=offer.where
            )
