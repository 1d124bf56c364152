"""Every hook is documented with an example, and the examples are right: they are run."""

from __future__ import annotations
import __future__

import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import GeneratorType
from typing import Any, get_args, get_type_hints
from unittest import mock

import pytest
from attrs import frozen
from xk8s import hookimpl, hookspecs, overlay
from xk8s.context import Context
from xk8s.names.core_settings import ClusterSettings
from xk8s.pki import Keys
from xk8s.planning.topology import networks, nodes
from xk8s.sources import Artifact

HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if name.startswith("xk8s_") and inspect.isfunction(function)
}


@frozen(kw_only=True)
class Example:
    """Stands in for a settings class of the reader's."""


READERS_OWN = {
    # What an example uses of the reader's own overlay.
    "EtcdSettings": Example,
    "CrioSettings": Example,
    "KERNEL": Artifact(name="kernel", version="1", members=("vmlinuz",), sources=()),
    "why_unavailable": lambda release, online: None if online else "never asked for",
    "release": lambda settings: settings,
    "check_web": lambda context: "answers",
    "load_missing_images": lambda access, progress: None,
}


def example(function: Callable[..., Any]) -> Callable[..., Any]:
    """The implementation of the hook that its docstring shows."""
    found = re.search(r"Example::\n\n((?:    .*\n?|\n)+)", inspect.getdoc(function) or "")
    assert found, f"{function.__name__} has no example: write one into its docstring"
    code = compile(
        textwrap.dedent(found[1]), function.__name__, "exec",
        flags=__future__.annotations.compiler_flag,
    )  # fmt: skip
    space = {**vars(hookspecs), **vars(overlay), "hookimpl": hookimpl, **READERS_OWN}
    exec(code, space)
    shown = space[function.__name__]
    assert shown is not function, "the example implements another hook"
    return shown


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_hook_has_an_example_that_implements_it(name: str) -> None:
    shown = example(HOOKS[name])
    assert getattr(shown, "xk8s_impl", None), "without @hookimpl"
    ours, theirs = inspect.signature(HOOKS[name]), inspect.signature(shown)
    assert list(theirs.parameters) == list(ours.parameters)
    assert theirs.return_annotation == ours.return_annotation


def test_a_hook_without_an_example_is_noticed() -> None:
    def xk8s_new(ctx: Context) -> None:
        """Something new."""

    with pytest.raises(AssertionError, match="xk8s_new has no example"):
        example(xk8s_new)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_the_example_gives_what_the_hook_says(name: str, tmp_path: Path) -> None:
    """Clusters that run are stand-ins here: only who acts on one (`access`) meets one."""
    cluster = ClusterSettings()
    ctx = Context(
        cluster="t", ip_family="ipv4", overlays=("it",),
        networks=networks(cluster), nodes=nodes(cluster), all_settings={},
    )  # fmt: skip
    arguments = {
        "ctx": ctx,
        "node": ctx.nodes[0],
        "keys": Keys(tmp_path / "pki"),
        "settings": Example(),
        "online": False,
        "access": mock.Mock(),
        "progress": mock.Mock(),
        "layers": ("images",),
        "nodes": ("vm-002",),
    }
    function = HOOKS[name]
    wanted = inspect.signature(function).parameters
    given = example(function)(**{key: arguments[key] for key in wanted})
    returned = get_type_hints(function, {**vars(hookspecs), **types()})["return"]
    if isinstance(given, GeneratorType):
        given = list(given)
        assert given
        (of,) = get_args(returned)
        assert all(isinstance(item, of) for item in given)
    else:
        assert isinstance(given, get_args(returned) or returned)


def types() -> dict[str, Any]:
    """What hookspecs imports for type checkers alone."""
    from xk8s.context import ClusterAccess
    from xk8s.progress import Progress

    return {
        **vars(overlay), "Keys": Keys, "ClusterAccess": ClusterAccess, "Progress": Progress,
        "Context": Context,
    }  # fmt: skip
