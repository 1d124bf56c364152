"""Advice is for whoever reads it: an overlay's maker is not sent to its makers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from xk8s.errors import PlanError, PluginError
from xk8s.names.advice import about_missing
from xk8s.names.allow_list import Policy
from xk8s.names.registry import Registry
from xk8s.overlay import Overlay
from xk8s.planning.make_plan import make_plan
from xk8s.planning.resolve import resolve
from xk8s.testing import plugin
from xk8s.testing.plans import request_of

SOURCE = """\
from xk8s import hookimpl
from xk8s.overlay import Overlay
@hookimpl
def xk8s_overlay(): return {answer}
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution t-advice, whose overlay returns the wrong thing; its dist-info."""
    info = tmp_path / "site" / "t_advice-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: t-advice\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xk8s.v1]\nt-advice = t_advice\n")
    module = tmp_path / "site" / "t_advice.py"
    module.write_text(SOURCE.format(answer="'x'"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return info


def hint() -> str:
    with pytest.raises(PluginError) as caught:
        Registry(rules=Policy()).overlay("t-advice")
    return caught.value.hint


def test_a_mistake_in_an_installed_overlay_is_for_its_authors(broken: Path) -> None:
    assert broken.exists()
    assert hint() == "report it to the authors of that distribution"


@pytest.mark.parametrize("text", ["", "[", "[]", '{"url": 3}', '{"dir_info": {"editable": true}}'])
def test_where_it_is_installed_from_may_not_be_known(broken: Path, text: str) -> None:
    (broken / "direct_url.json").write_text(text)
    assert hint() == "report it to the authors of that distribution"


def test_a_mistake_in_ones_own_source_tree_is_ones_own(broken: Path, tmp_path: Path) -> None:
    tree = tmp_path / "my work"
    origin = {"url": tree.as_uri(), "dir_info": {"editable": True}}
    (broken / "direct_url.json").write_text(json.dumps(origin))
    assert hint() == f"fix xk8s_overlay in module t_advice, in {tree}"


def test_what_is_missing_is_named_by_its_distribution() -> None:
    registry = Registry({"t-one": plugin(overlay=lambda: Overlay(summary="1"))}, Policy())
    registry._offers = {"t-one": registry.offer("t-one")}
    with pytest.raises(PlanError) as caught:
        make_plan(request_of(("t-one",), (), "t"), registry)
    assert "install xk8s-debian" in caught.value.hint
    needing = Registry({"t": plugin(overlay=lambda: Overlay(summary="1", requires=("base",)))})
    needing._offers = {"t": needing.offer("t")}
    with pytest.raises(PlanError, match="needs 'base'") as caught:
        resolve(("t",), needing, lambda _: None)
    assert "install xk8s-debian" in caught.value.hint
    assert about_missing("t-nothing") == "install an overlay that provides 't-nothing'"
