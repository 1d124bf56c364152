"""The contract with makers of overlays is the one that is kept: a break is a decision."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tools.docs.contract import PUBLIC, compare, contract, main

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "reference" / "contract-v1.json"

in_repository = pytest.mark.skipif(not KEPT.exists(), reason="the docs are not part of the package")


@in_repository
def test_nothing_of_the_contract_is_broken() -> None:
    breaks, _ = compare(json.loads(KEPT.read_text()), contract())
    assert not breaks, "see docs/reference/compatibility.md: " + "; ".join(breaks)


@in_repository
def test_additions_to_the_contract_are_kept() -> None:
    _, additions = compare(json.loads(KEPT.read_text()), contract())
    assert not additions, "run: ./run python tools/docs contract"


@in_repository
def test_the_page_names_every_public_module() -> None:
    page = (KEPT.parent / "compatibility.md").read_text()
    assert not [module for module in PUBLIC if f"`{module}`" not in page]


KEPT_TABLE = {
    "hook xk8s_x()": "Iterable[Layer]",
    "hook xk8s_x(ctx)": "Context",
    "m.Class": "class",
    "m.Class.name": "required, str",
    "m.function()": "str",
    "m.function(one)": "required, str (argument 1)",
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hook xk8s_x()": None, "hook xk8s_x(ctx)": None}, "hook xk8s_x() is gone"),
        ({"hook xk8s_x(ctx)": None}, "hook xk8s_x(ctx) is gone"),
        ({"hook xk8s_x()": "Layer"}, "hook xk8s_x() was 'Iterable[Layer]' and is 'Layer'"),
        ({"m.Class.name": None}, "m.Class.name is gone"),
        ({"m.Class.name": "required, bytes"}, "m.Class.name was 'required, str'"),
        ({"m.Class.size": "required, int"}, "m.Class.size is new and must be given"),
        ({"m.function(two)": "required, int (argument 2)"}, "m.function(two) is new and must be"),
        ({"m.function(one)": "required, str (argument 2)"}, "m.function(one) was"),
    ],
)
def test_a_break_is_found(changes: dict[str, str | None], text: str) -> None:
    now = {name: what for name, what in {**KEPT_TABLE, **changes}.items() if what is not None}
    breaks, _ = compare(KEPT_TABLE, now)
    assert text in "; ".join(breaks)


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        ("hook xk8s_y()", "str"),
        ("hook xk8s_x(node)", "Node"),
        ("m.Class.size", "int = 3"),
        ("m.Other", "class"),
        ("m.Other.name", "required, str"),
        ("m.function(two)", "int = 0 (argument 2)"),
        ("m.new()", "str"),
        ("m.new(one)", "required, str (argument 1)"),
    ],
)
def test_an_addition_is_no_break(name: str, promise: str) -> None:
    more = {"m.Other": "class"} if name == "m.Other.name" else {}
    breaks, additions = compare(KEPT_TABLE, {**KEPT_TABLE, **more, name: promise})
    assert breaks == []
    assert f"{name} is new" in additions


def test_a_break_is_written_down_only_when_it_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept.json"
    assert main([str(file)]) == 0
    now = json.loads(file.read_text())
    assert main([str(file)]) == 0

    less = {name: what for name, what in now.items() if name != "hook xk8s_layers(ctx)"}
    file.write_text(json.dumps(less))
    assert main([str(file)]) == 0  # an addition
    assert json.loads(file.read_text()) == now

    file.write_text(json.dumps({**now, "hook xk8s_old()": "str"}))
    before = file.read_text()
    assert main([str(file)]) == 1
    assert "BREAK: hook xk8s_old() is gone" in capsys.readouterr().err
    assert file.read_text() == before
    assert main(["--accept-breaks", str(file)]) == 0
    assert json.loads(file.read_text()) == now


def test_the_contract_has_what_makers_see() -> None:
    found = contract()
    assert found["hook xk8s_layers(ctx)"] == "Context"
    assert found["xk8s.overlay.Layer.name"] == "required, str"
    assert found["xk8s.overlay.Layer.entries"] == "tuple[Entry, ...] = ()"
    assert found["xk8s.context.Context.fragments(point)"] == "required, str (argument 1)"
    assert found["xk8s.errors.PlanError"] == "class of Xk8sError, exit code 4"
    assert found["point cluster.route"] == "str"
    assert not [name for name in found if "._" in name.replace("__init__", "")]


# Our own overlays are released with the core, and may use more of it; but what third parties copy
# from must not.
COPIED = ("containerd", "etcd", "externalip")


@in_repository
@pytest.mark.parametrize("plugin", COPIED)
def test_overlays_that_serve_as_examples_import_what_is_public(plugin: str) -> None:
    beyond = set()
    for path in (ROOT / "plugins" / plugin / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xk8s":
                if node.module not in PUBLIC:
                    beyond.add(node.module)
                else:
                    names = PUBLIC[node.module or ""]
                    beyond |= {
                        f"{node.module}.{alias.name}"
                        for alias in node.names
                        if names and alias.name not in names
                    }
    assert not beyond
