"""Overlays are laid out alike, so that a fault or an observation is found by the file's name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"
HOMES = {"Fault": "faults", "Observation": "observe"}


def _calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


@pytest.mark.parametrize("kind", HOMES)
def test_a_kind_of_value_has_one_home_in_each_plugin(kind: str) -> None:
    home = HOMES[kind]
    elsewhere = [
        str(path.relative_to(PLUGINS))
        for path in sorted(PLUGINS.glob("*/src/*/**/*.py"))
        if kind in _calls(path) and home not in (path.stem, path.parent.name)
    ]
    assert not elsewhere, f"each {kind} of a plugin belongs in its {home}.py"


def test_every_plugin_uses_the_same_names() -> None:
    """A singular, a synonym or a nickname would hide a module from whoever knows another plugin."""
    others = {"artifact", "fault", "check", "observations", "observation", "trouble", "point"}
    found = [
        str(path.relative_to(PLUGINS))
        for path in sorted(PLUGINS.glob("*/src/*/**/*.py"))
        if path.stem in others
    ]
    assert not found, "the names are overlay, settings, artifacts, points, faults, observe, checks"
