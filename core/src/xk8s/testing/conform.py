"""Whether an overlay keeps the contract (docs/reference/hooks.md): one function per rule."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import attrs
from attrs import frozen

from xk8s import hookspecs
from xk8s.errors import Xk8sError, nearest
from xk8s.faults import recognise as faults
from xk8s.names import value_rules
from xk8s.names.registry import Registry
from xk8s.overlay import Check, Fault, Fragment, Observation, Overlay, Point
from xk8s.planning.ownership import claims
from xk8s.planning.points import CORE_POINTS
from xk8s.testing.hook_recorder import Notes, take_notes
from xk8s.testing.other_process import ask_again
from xk8s.util import typecheck
from xk8s.util.guest_paths import guest_path

NODES = ("cluster.nodes=2", "cluster.routers=1", "cluster.testers=1")
"""Every role exists, unless the caller's settings say otherwise."""


@frozen(kw_only=True)
class Violation:
    """A rule that is broken: which overlay, which hook, what was seen, what to do about it."""

    overlay: str
    hook: str
    what: str
    todo: str

    def __str__(self) -> str:
        return f"overlay {self.overlay!r}, {self.hook}: {self.what}\n  do: {self.todo}"


def assert_conforms(overlay: str, *beside: str, sets: tuple[str, ...] = ()) -> None:
    """Fail with everything that is wrong with an installed overlay.

    A cluster of it and the overlays ``beside`` it is planned three times, once of these in
    another process: nothing is built or started. ``sets`` are settings as on the command line.

    Verified are hooks (names, arguments, marks, types of all return values), settings (each has a
    default of its type and a help text), no I/O, the same answers each time, one owner for each
    path, and that the points of fragments exist.
    """
    found = violations(overlay, *beside, sets=sets)
    if found:
        raise AssertionError("\n".join(str(violation) for violation in found))


def violations(overlay: str, *beside: str, sets: tuple[str, ...] = ()) -> tuple[Violation, ...]:
    """Return what `assert_conforms` fails with."""
    request = overlay, beside, (*NODES, *sets)
    notes = take_notes(*request)
    found = list(_io(overlay, notes.did))
    about = notes.answers.get("xk8s_overlay")
    if isinstance(about, Overlay):
        found += _signatures(overlay, notes.hooks)
        found += _settings(overlay, about)
        found += _own_points(overlay, about)
    found += _types(overlay, notes)
    found += _fragments(overlay, notes)
    if notes.error is not None:
        if not found:  # else it follows from what was found
            found.append(_of_error(overlay, notes.last, notes.error))
        return tuple(found)
    found += _asked(overlay, notes)
    found += _paths(overlay, notes)
    found += _repeats(overlay, notes, take_notes(*request), ask_again(*request))
    return tuple(dict.fromkeys(found))


def _of_error(overlay: str, hook: str, error: Xk8sError) -> Violation:
    where = f" ({error.where})" if error.where else ""
    return Violation(
        overlay=overlay, hook=hook, what=f"{error}{where}", todo=error.hint or "fix this hook"
    )


def _io(overlay: str, did: Mapping[str, list[str]]) -> Iterator[Violation]:
    for hook, deeds in did.items():
        for deed in deeds:
            yield Violation(
                overlay=overlay,
                hook=hook,
                what=f"it {deed}",
                todo="plan from ctx and package data (importlib.resources) alone; act in a Check, "
                "a Recipe, or take what the user gives as a setting with `pin`",
            )


def _signatures(overlay: str, hooks: Mapping[str, Callable[..., object]]) -> Iterator[Violation]:
    """Names of hooks and arguments are looked at when the plugin is registered."""
    for name, function in hooks.items():
        said = inspect.signature(function).parameters
        spec = inspect.signature(getattr(hookspecs, name))
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            yield Violation(
                overlay=overlay, hook=name, what="it is async", todo="hooks are plain functions"
            )
        lacking = [key for key in said if said[key].annotation is inspect.Parameter.empty]
        if inspect.signature(function).return_annotation is inspect.Signature.empty:
            lacking.append("what it returns")
        if lacking:
            todo = ", ".join(str(parameter) for parameter in spec.parameters.values())
            yield Violation(
                overlay=overlay,
                hook=name,
                what=f"no type for {', '.join(lacking)}",
                todo=f"write def {name}({todo}) -> {spec.return_annotation}",
            )


def _settings(overlay: str, about: Overlay) -> Iterator[Violation]:
    cls = about.settings
    if cls is None:
        return

    def finding(what: str, todo: str) -> Violation:
        return Violation(overlay=overlay, hook="xk8s_overlay", what=what, todo=todo)

    if not attrs.has(cls):
        yield finding(f"settings class {cls!r} is not an attrs class", "decorate it: @attrs.frozen")
        return
    hints = typing.get_type_hints(cls)
    for attribute in attrs.fields(cls):
        key = f"{overlay}.{attribute.name}"
        if not str(attribute.metadata.get("help") or "").strip():
            yield finding(
                f"the setting {key} has no description",
                f'{attribute.name}: … = setting(default, "what it means")',
            )
        if attribute.name not in hints:
            yield finding(f"the setting {key} has no type", "annotate the field")
            continue
        default = attribute.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory()
        if default is attrs.NOTHING:
            yield finding(
                f"the setting {key} has no default", "give it one: nobody should have to set it"
            )
        elif problem := typecheck.problem(default, hints[attribute.name]):
            yield finding(f"the default of {key}: {problem}", "fix type or value")


def _own_points(overlay: str, about: Overlay) -> Iterator[Violation]:
    if not about.summary.strip():
        yield Violation(
            overlay=overlay,
            hook="xk8s_overlay",
            what="its summary is empty",
            todo='Overlay(summary="what it adds to a cluster")',
        )
    for name, point in about.points.items():
        what = ""
        if not name.startswith(f"{overlay}.") or not point.help.strip():
            what = f"the point {name!r} has another name or no description"
        elif problem := typecheck.problem(point.example, point.type):
            what = f"the example of the point {name!r}: {problem}"
        if what:
            yield Violation(
                overlay=overlay,
                hook="xk8s_overlay",
                what=what,
                todo=f'points={{"{overlay}.…": Point(type=…, help="what becomes of it", …)}}',
            )


def _types(overlay: str, notes: Notes) -> Iterator[Violation]:
    for call, answer in notes.answers.items():
        hook, _, node = call.partition(" ")
        values = answer if isinstance(answer, tuple) else (answer,)
        for value in values:
            types = "return the types that xk8s.overlay says; mypy --strict finds these too"
            found = [(typecheck.problem(value, type(value)), types), (_arguments(value), types)]
            if not any(problem for problem, _ in found):
                found = [(_content(value), "docs/reference/values.md says what is valid there")]
            for problem, todo in found:
                if problem:
                    what = f"{type(value).__name__} {node}".rstrip() + f": {problem}"
                    yield Violation(overlay=overlay, hook=hook, what=what, todo=todo)
        if twice := value_rules.duplicate(values):
            yield Violation(
                overlay=overlay, hook=hook, what=twice, todo="give each a name of its own"
            )


def _content(value: object) -> str | None:
    """Return what is wrong with a value whose types are right."""
    if isinstance(value, Fault):
        problem = faults.problem_of(value)
        return f"{value.name}: {problem}" if problem else None
    # A report makes a safe name of any other, which then surprises.
    if isinstance(value, Observation) and {"..", "/"} & {*PurePosixPath(value.name).parts}:
        return f"name is {value.name!r}, not a path below the node's directory"
    return value_rules.problem(value)


def _arguments(value: object) -> str:
    """What is wrong with the functions of a check."""
    if isinstance(value, Check):
        for name in ("run", "explain"):
            try:
                function = getattr(value, name)
                if callable(function):
                    inspect.signature(function).bind(None)
            except TypeError as error:
                return f"{name} is called with a CheckContext: {error}"
    return ""


def _fragments(overlay: str, notes: Notes) -> Iterator[Violation]:
    """Also those for overlays that are installed and not selected."""
    registry = Registry()
    for fragment in notes.answers.get("xk8s_fragments") or ():
        if not isinstance(fragment, Fragment):
            continue
        points, has = _points_beside(str(fragment.point), registry)
        if fragment.point not in points:
            yield Violation(
                overlay=overlay,
                hook="xk8s_fragments",
                what=f"there is no point {fragment.point!r}",
                todo=f"{nearest(str(fragment.point), points)}{has}",
            )


def _points_beside(point: str, registry: Registry) -> tuple[Mapping[str, Point], str]:
    """Return the points of whom this one would belong to, and a word on them."""
    owner = point.partition(".")[0]
    if owner == "cluster":
        return CORE_POINTS, f"points of the core: {', '.join(CORE_POINTS)}"
    if owner not in {offer.name for offer in registry.offers}:
        return {}, f"no overlay {owner!r} is installed: install it for the tests"
    points = registry.overlay(owner).points
    return points, f"points of {owner}: {', '.join(points) or 'none'}"


def _asked(overlay: str, notes: Notes) -> Iterator[Violation]:
    registry = Registry()
    for hook, asked in notes.asked.items():
        for point in asked:
            if point not in _points_beside(point, registry)[0]:
                yield Violation(
                    overlay=overlay,
                    hook=hook,
                    what=f"it takes fragments for {point!r}, which is not declared",
                    todo='declare it: Overlay(points={"…": Point(…)})',
                )


def _paths(overlay: str, notes: Notes) -> Iterator[Violation]:
    """Paths of layers are looked at by the plan; those of a node's own files, here."""
    assert notes.plan is not None
    for node in notes.plan.nodes:
        in_layers = {
            claim.path: claim
            for planned in notes.plan.layers
            if node.node.role in planned.layer.roles
            for claim in claims(planned.overlay, planned.layer)
        }
        seen: set[str] = set()
        for file in notes.answers.get(f"xk8s_node_files of {node.node.name}") or ():
            what = todo = ""
            try:
                if not guest_path(file.path).parts:
                    raise ValueError("'/' is a directory")
            except ValueError as error:
                what, todo = str(error), "paths are absolute and without '.' and '..'"
            if file.path in seen:
                what, todo = f"{file.path} is used twice", "write it once"
            elif file.path in in_layers:
                what = f"{file.path} is owned by {in_layers[file.path]} as well"
                todo = "use a fragment of the file's owner, or a drop-in of another name"
            seen.add(file.path)
            if what:
                yield Violation(
                    overlay=overlay,
                    hook="xk8s_node_files",
                    what=f"{node.node.name}: {what}",
                    todo=todo,
                )


def _repeats(
    overlay: str, first: Notes, second: Notes, other: Mapping[str, Any]
) -> Iterator[Violation]:
    if "failed" in other:
        yield Violation(
            overlay=overlay,
            hook="import",
            what=f"it cannot be planned in another process: {other['failed']}",
            todo="let it depend on nothing that the tests set up",
        )
        return
    yield from _io(overlay, other["did"])
    here = first.as_data()["answers"]
    pairs = (("when asked again", second.as_data()["answers"]),
             ("in another process (another PYTHONHASHSEED)", other["answers"]))  # fmt: skip
    for when, answers in pairs:
        for call in here:
            if path := difference(here[call], answers.get(call), ""):
                yield Violation(
                    overlay=overlay,
                    hook=call.partition(" ")[0],
                    what=f"it answers differently {when}: {path}",
                    todo="sort what comes out of sets; use no clock, no random numbers, no id()",
                )


def difference(one: Any, other: Any, path: str) -> str:
    """Return where two JSON values first differ, and how; "" if they do not."""
    if type(one) is type(other) and isinstance(one, dict) and one.keys() == other.keys():
        found = (difference(one[key], other[key], f"{path}.{key}") for key in one)
        return next(filter(None, found), "")
    if type(one) is type(other) and isinstance(one, list) and len(one) == len(other):
        found = (
            difference(*pair, f"{path}[{index}]")
            for index, pair in enumerate(zip(one, other, strict=True))
        )
        return next(filter(None, found), "")
    return "" if one == other else f"{path.lstrip('.') or 'it'} is {one!r:.80} and {other!r:.80}"
