"""A plan is made while it is noted what one overlay answers to each hook, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs
from attrs import define, field

from xk8s.context import Context
from xk8s.errors import Xk8sError
from xk8s.names.allow_list import Policy
from xk8s.names.registry import Registry
from xk8s.overlay import Fragment, Node, Overlay
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.testing.no_io import watched
from xk8s.testing.plans import request_of, with_base
from xk8s.util.digest import plain

T = TypeVar("T")


@define(kw_only=True)
class Notes:
    """What was seen of one overlay: the ``hooks`` that it has, its ``answers`` by call ("xk8s_boot
    of vm-001"), what it ``did`` and the points of fragments that it ``asked`` for, by hook; the
    plan, or the error and the hook that was called last before it.
    """

    hooks: dict[str, Callable[..., object]] = field(factory=dict)
    answers: dict[str, Any] = field(factory=dict)
    did: dict[str, list[str]] = field(factory=dict)
    asked: dict[str, list[str]] = field(factory=dict)
    plan: Plan | None = None
    error: Xk8sError | None = None
    last: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return JSON, to be compared with that of another process."""
        return {"answers": {key: plain(value) for key, value in self.answers.items()}}


def take_notes(overlay: str, beside: tuple[str, ...], sets: tuple[str, ...]) -> Notes:
    """Plan a cluster of ``overlay`` and those ``beside`` it, and ask it all hooks that plan."""
    notes = Notes()
    registry = _Recorder(overlay, notes)
    try:
        notes.plan = make_plan(request_of((*beside, overlay), sets, "test"), registry)
        ctx = notes.plan.ctx
        cls = registry.overlay(overlay).settings
        own = ctx.all_settings[cls] if cls else None
        registry.hooks.unavailable(overlay, own, online=False)
        registry.hooks.faults(overlay)
        registry.hooks.observe(overlay, ctx)
        registry.hooks.log_files(overlay, ctx)
    except Xk8sError as error:
        notes.error = error
    return notes


class _Recorder(Registry):
    """Notes what one overlay answers."""

    def __init__(self, subject: str, notes: Notes) -> None:
        super().__init__(with_base(), Policy())
        self._subject = subject
        self._notes = notes

    def overlay(self, name: str) -> Overlay:
        if name != self._subject or "xk8s_overlay" in self._notes.answers:
            return super().overlay(name)
        self._notes.last = "import"
        # Imported modules of others read what they like (their data, the system's).
        value = self._watched("import", lambda: super(_Recorder, self).overlay(name), reads=False)
        self._notes.answers["xk8s_overlay"] = value
        self._notes.hooks = {
            caller.name: impl.function
            for caller in self._manager.get_hookcallers(self._manager.get_plugin(name)) or ()
            for impl in caller.get_hookimpls()
            if impl.plugin_name == name
        }
        return value

    def call_one(self, overlay: str, hook: str, kind: type[T], **arguments: Any) -> T | None:
        return self._noted(overlay, hook, arguments, lambda more: super(_Recorder, self).call_one(
            overlay, hook, kind, **more))  # fmt: skip

    def call_many(self, overlay: str, hook: str, kind: type[T], **arguments: Any) -> tuple[T, ...]:
        return self._noted(overlay, hook, arguments, lambda more: super(_Recorder, self).call_many(
            overlay, hook, kind, **more))  # fmt: skip

    def _check(self, name: str, hook: str, kind: type[Any], value: object) -> None:
        """Plan just what the plan cannot do without: everything mistyped should be reported at
        once.
        """
        if name != self._subject or not isinstance(value, kind):
            super()._check(name, hook, kind, value)

    def _check_names(self, name: str, hook: str, values: Iterable[object]) -> None:
        """The same holds for names."""
        if name != self._subject:
            super()._check_names(name, hook, values)

    def _noted(
        self, name: str, hook: str, arguments: dict[str, Any], call: Callable[[dict[str, Any]], T]
    ) -> T:
        self._notes.last = hook
        if name != self._subject:
            return call(arguments)
        node = arguments.get("node")
        key = f"{hook} of {node.name}" if isinstance(node, Node) else hook
        ctx = arguments.get("ctx")
        if isinstance(ctx, Context):
            asked = self._notes.asked.setdefault(hook, [])
            fragments = _Asked(ctx.all_fragments, asked)
            arguments = {**arguments, "ctx": attrs.evolve(ctx, all_fragments=fragments)}
        # What is on this machine may decide whether it is a default choice.
        reads = hook != "xk8s_unavailable"
        value = self._watched(hook, lambda: call(arguments), reads=reads)
        self._notes.answers[key] = value
        return value

    def _watched(self, hook: str, call: Callable[[], T], *, reads: bool) -> T:
        with watched(reads=reads) as seen:
            try:
                return call()
            finally:
                did = self._notes.did.setdefault(hook, [])
                did += [action for action in seen if action not in did]


class _Asked(dict[str, tuple[Fragment, ...]]):
    """Fragments that note which points were asked for."""

    def __init__(self, real: Mapping[str, tuple[Fragment, ...]], asked: list[str]) -> None:
        super().__init__(real)
        self._asked = asked

    def get(self, point: str, default: Any = None) -> Any:
        if point not in self._asked:
            self._asked.append(point)
        return super().get(point, default)
