"""Plans of installed overlays, and of invented ones, for tests: no QEMU, no root, no network."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from xk8s import hookimpl
from xk8s.errors import Xk8sError
from xk8s.names.allow_list import Policy
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.overlay import BootImage, KernelFacts, Overlay, Take
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.sources import Artifact

BASE = "test-base"
"""The overlay that stands in for a base system where none is installed."""


class MakePlan(Protocol):
    """What the fixture ``plan`` is."""

    def __call__(
        self,
        overlays: str | tuple[str, ...],
        *sets: str,
        name: str = "test",
        plugins: Mapping[str, object] | None = None,
    ) -> Plan:
        """See `plan_of`."""


def plan_of(
    overlays: str | tuple[str, ...],
    *sets: str,
    name: str = "test",
    plugins: Mapping[str, object] | None = None,
) -> Plan:
    """Return the plan that ``xk8s up`` would follow for these overlays.

    ``sets`` are settings as on the command line ("cluster.nodes=1"); neither the environment nor
    an xk8s.toml count. ``plugins`` are overlays that are not installed: name -> module, or what
    `plugin` makes. Where no base system is installed, one without content takes its place.
    Raises what `make_plan` raises.
    """
    return make_plan(request_of(overlays, sets, name), Registry(with_base(plugins), Policy()))


def request_of(overlays: str | tuple[str, ...], sets: tuple[str, ...], name: str) -> Request:
    """A request that depends on nothing but these."""
    names = (overlays,) if isinstance(overlays, str) else overlays
    return Request(overlays=names, name=name, sets=sets, environment={}, stored={})


def with_base(plugins: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return these overlays, and the stand-in if nothing else provides ``base``."""
    found = dict(plugins or {})
    if not _provides_base(Registry(found, Policy())):
        found[BASE] = base()
    return found


def plugin(**hooks: Callable[..., object]) -> object:
    """An invented overlay of these hooks (without their ``xk8s_``)."""
    found = types.SimpleNamespace()
    for name, function in hooks.items():
        setattr(found, f"xk8s_{name}", hookimpl(function))
    return found


@functools.cache
def base() -> object:
    """A base system without content, whose kernel has everything that anybody needs."""
    image = Artifact(name=BASE, version="1", members=("all",), sources=())
    take = Take(artifact=image, member="all", path="/")

    facts = KernelFacts(release="0", config=_Any(), modules=_All(), builtin=frozenset())
    return plugin(
        overlay=lambda: Overlay(summary="a base without content", provides=("base",)),
        kernel_facts=lambda ctx: facts,  # noqa: ARG005 - pluggy goes by the name
        boot_image=lambda ctx: BootImage(kernel=take, initramfs=take),  # noqa: ARG005
    )


class _Any(dict[str, str]):
    """Every symbol of a kernel's configuration."""

    def __contains__(self, _symbol: object) -> bool:
        return True


class _All(frozenset[str]):
    """Every module."""

    def __contains__(self, _module: object) -> bool:
        return True

    def __or__(self, _other: Any) -> _All:
        return self


def _provides_base(registry: Registry) -> bool:
    for offer in registry.offers:
        try:
            if "base" in registry.overlay(offer.name).provides:
                return True
        except Xk8sError:
            continue  # it is reported when it is requested
    return False
