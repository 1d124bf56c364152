"""Each hook has one typed method, and nothing else calls a hook by its name."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Union, get_args, get_origin, get_type_hints

import pytest
from xk8s import hookspecs
from xk8s.names.hooks import Hooks
from xk8s.pki import Keys

REPOSITORY = Path(__file__).parents[2]

HOOKS: dict[str, Callable[..., object]] = {
    name: function
    for name, function in vars(hookspecs).items()
    if name.startswith("xk8s_") and inspect.isfunction(function)
}


def _types(function: Callable[..., object]) -> dict[str, object]:
    return get_type_hints(function, localns={"Keys": Keys})


def _returned(declared: object) -> object:
    """What the facade returns for a hook that returns ``declared``."""
    if get_origin(declared) is Iterable:
        return tuple[(*get_args(declared), ...)]  # type: ignore[misc]
    if declared is type(None) or get_origin(declared) in (Union, types.UnionType):
        return declared
    return declared | None  # type: ignore[operator]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_method_of_its_types(hook: str) -> None:
    declared = _types(HOOKS[hook])
    offered = _types(getattr(Hooks, hook.removeprefix("xk8s_")))
    assert offered.pop("overlay") is str
    assert offered.pop("return") == _returned(declared.pop("return"))
    assert list(offered.items()) == list(declared.items())


@pytest.mark.parametrize("hook", HOOKS)
def test_a_method_calls_its_hook_with_what_it_was_given(hook: str) -> None:
    seen: list[tuple[str, str, dict[str, object]]] = []

    class Caller:
        def call_one(self, overlay: str, hook: str, kind: type, **arguments: object) -> None:
            seen.append((overlay, hook, arguments))

        call_many = call_one

    method = getattr(Hooks(Caller()), hook.removeprefix("xk8s_"))  # type: ignore[arg-type]
    given = {name: object() for name in inspect.signature(HOOKS[hook]).parameters}
    method("an-overlay", **given)
    assert seen == [("an-overlay", hook, given)]


def test_the_facade_has_no_other_methods() -> None:
    methods = {name for name in vars(Hooks) if not name.startswith("_")}
    assert methods == {name.removeprefix("xk8s_") for name in HOOKS}


def test_nothing_else_calls_a_hook_by_its_name() -> None:
    # The registry does the calls, the recorder stands in for it when an overlay is tested.
    allowed = {"hooks.py", "registry.py", "hook_recorder.py", Path(__file__).name}
    called = re.compile(
        r"\.call_(?:one|many)\(|\.\w+\(\s*[^()\"']+,\s*[\"'](?:" + "|".join(HOOKS) + r")[\"']"
    )
    found = [
        str(path.relative_to(REPOSITORY))
        for folder in ("core", "plugins", "tests", "tools")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        if path.name not in allowed and called.search(path.read_text())
    ]
    assert not found, f"use registry.hooks.HOOK(overlay, …), which is typed: {found}"
