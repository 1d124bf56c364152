"""Pictures of plans say what the plan says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from xk8s.cli import app
from xk8s.names.core_settings import ClusterSettings
from xk8s.names.request import Request
from xk8s.planning.diagram import PARTS, graph, mermaid
from xk8s.planning.diagram_svg import draw
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "work" / "etc").mkdir(parents=True)
    (tmp_path / "work" / "etc" / "a<b>&c").write_text("x")
    values = ["cluster.nodes=9", "cluster.testers=1"]
    overlays = ("debian", str(tmp_path / "work"))
    return make_plan(Request(overlays=overlays, environment={}, sets=tuple(values)))


def words(picture: str) -> list[str]:
    root = ElementTree.fromstring(picture)
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_svg_has_every_vm_network_and_layer(plan: Plan) -> None:
    picture = draw(graph(plan), PARTS)
    said = words(picture)
    # Many VMs of one role are drawn as one box.
    assert {"vm-001", "vm-002", "vm-003", "vm-009", "vm-201", "vm-221"} <= set(said)
    assert "vm-004 … vm-008" in said
    assert "5 × worker" in said
    assert "vm-005" not in said
    for network in plan.ctx.networks[1:]:
        assert any(network.ipv4 in text for text in said)
    assert {planned.layer.name for planned in plan.layers} <= set(said)
    assert said.index("work/") < said.index("debian"), "the highest layer is on top"
    description = ElementTree.fromstring(picture).findtext(f"{SVG}desc")
    assert description
    assert "Layers of router, lowest first: debian-base, debian-modules" in description


def test_nodes_on_both_networks_are_between_them_and_no_wire_passes_a_label() -> None:
    values = ("cluster.nodes=3", "cluster.routers=2", "cluster.node_networks=1,2")
    request = Request(overlays=("debian",), environment={}, sets=values)
    root = ElementTree.fromstring(draw(graph(make_plan(request)), ("networks",)))

    def lines(kind: str) -> list[dict[str, float]]:
        found = [line.attrib for line in root.iter(f"{SVG}line") if line.get("class") == kind]
        return [{key: float(line[key]) for key in ("x1", "y1", "x2", "y2")} for line in found]

    inside, outside = sorted(line["y1"] for line in lines("net"))
    boxes = [float(box.attrib["y"]) for box in root.iter(f"{SVG}rect") if box.get("class") == "vm"]
    assert len(boxes) == 5
    assert all(inside < y < outside for y in boxes)
    assert inside < 20, "there is a row for nobody above it"
    label = next(text for text in root.iter(f"{SVG}text") if "network 1" in (text.text or ""))
    # Some 6 pixels per letter.
    begins = float(label.attrib["x"]) - 6 * len(label.text or "")
    assert max(line["x1"] for line in lines("wire")) < begins


def test_svg_is_the_same_twice_and_needs_nothing(plan: Plan) -> None:
    picture = draw(graph(plan), PARTS)
    assert picture == draw(graph(plan), PARTS)
    assert set(re.findall(r"https?://[^\"]*", picture)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in picture


def test_mermaid_joins_vms_to_their_networks(plan: Plan) -> None:
    lines = mermaid(graph(plan), ("networks",)).splitlines()
    assert lines[0] == "flowchart TB"
    names = {match[2]: match[1] for line in lines
             if (match := re.match(r'\s+(vm\d+)\["(vm-\d+)<br>', line))}  # fmt: skip
    assert f"  {names['vm-001']} --- net1" in lines
    assert f"  net1 --- {names['vm-201']}" in lines
    assert f"  {names['vm-201']} --- net2" in lines
    assert f"  {names['vm-001']} --- net2" not in lines
    assert not any("subgraph" in line for line in lines)
    layers = mermaid(graph(plan), ("layers",))
    assert layers.count("subgraph") == 4
    assert "debian-base" in layers


def test_the_part_that_is_asked_for(plan: Plan) -> None:
    assert "vm-001" not in words(draw(graph(plan), ("layers",)))
    assert "debian-base" not in words(draw(graph(plan), ("networks",)))


def test_a_route_from_outside_names_its_gateway() -> None:
    overlays = ("kubernetes", "containerd", "externalip")
    plan = make_plan(Request(overlays=overlays, environment={}))
    assert "10.0.0.0/24 by vm-201" in words(draw(graph(plan), PARTS))


def test_the_command_prints_it() -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app.xk8s, ["plan", "debian", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert words(run("--graph", "svg"))
    assert run("--graph", "mermaid", "--graph-of", "layers").startswith("flowchart TB")


@pytest.mark.parametrize("wrong", [["--graph-of", "layers"], ["--json", "--graph", "svg"]])
def test_what_makes_no_sense_together_is_refused(wrong: list[str]) -> None:
    done = CliRunner().invoke(app.xk8s, ["plan", "debian", *wrong])
    assert done.exit_code != 0


def test_the_defaults_are_what_the_picture_in_the_docs_shows() -> None:
    from tools.docs.pictures import pictures

    said = words(pictures()["cluster.svg"]())
    shown = [text for text in said if text.startswith("vm-")]
    cluster = ClusterSettings()
    assert len(shown) == cluster.nodes + cluster.routers + cluster.testers
