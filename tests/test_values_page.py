"""The page of values: whatever a hook returns stands on it, with what an author has to know."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from xk8s import hookspecs

PAGE = (Path(__file__).resolve().parent.parent / "docs/reference/values.md").read_text()


def section(name: str) -> str:
    """What stands below the heading of a class or function."""
    found = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert found is not None, name
    return found[1]


def returned() -> set[str]:
    """The names of xk8s classes in the results of hooks."""
    hooks = [
        function
        for name, function in vars(hookspecs).items()
        if name.startswith("xk8s_") and inspect.isfunction(function)
    ]
    words = {
        word
        for hook in hooks
        for word in re.findall(r"[A-Z]\w+", str(hook.__annotations__["return"]))
    }
    return words - {"Iterable", "Mapping", "None"}


def test_everything_that_hooks_return_is_there_and_linked() -> None:
    assert len(returned()) > 10
    for name in returned():
        assert "Returned by [xk8s_" in section(name), name


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("File", "| `data` | `bytes` |  |"),
        ("File", "| `mode` | `int` | `0o644` |"),
        ("Layer", "| `roles` | `frozenset[Role]` | `ALL_ROLES` |"),
        ("Layer", "| `applied_by_hook` | `bool` | `False` |"),
        ("Take", "| `mode` | `int \\| None` | `None` |"),
        ("DebPackage", "| `members` | `Mapping[str, tuple[str, str]]` |  |"),
        ("Check", "| `explain` | `Callable[[CheckContext], str] \\| None` | `None` |"),
    ],
)
def test_fields_have_type_and_default(name: str, line: str) -> None:
    assert line in section(name).splitlines()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("DebPackage", '{"etcd": ("etcd-server", "/usr/bin/etcd")}'),
        ("DebPackage", "`Fragment` for `debian.packages`"),
        ("Fault", "(?P<image>...)"),
        ("Symlink", "absolute or relative"),
        ("Layer", "name only units that run on every VM"),
        ("Check", "`after_restore`: run it also after `up` restored a snapshot"),
    ],
)
def test_what_authors_had_to_guess_is_answered(name: str, answer: str) -> None:
    assert answer in section(name)


def test_signatures_are_those_of_the_source() -> None:
    assert "setting(default: Any, help: str, *, env: str | None = None" in PAGE
    assert "'str" not in PAGE
    assert "_jobs" not in PAGE
