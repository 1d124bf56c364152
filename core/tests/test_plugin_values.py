"""What a plugin returns and no guest, QEMU or systemd would take is its own error: it names it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from xk8s.errors import PluginError
from xk8s.overlay import BootOptions, Check, File, Forward, Layer, Overlay, Symlink
from xk8s.testing.plans import plan_of, plugin


def run(context: Any) -> str:
    return "ok"


def layers(*found: Layer) -> dict[str, Any]:
    return {"layers": lambda ctx: found}


def boot(**options: Any) -> dict[str, Any]:
    return {"boot": lambda ctx, node: BootOptions(**options)}


def checks(*found: Check) -> dict[str, Any]:
    return {"checks": lambda ctx: found}


FILE = File(path="/etc/x", data=b"")

WRONG: dict[str, dict[str, Any]] = {
    "a comma in a layer's name": layers(Layer(name="a,b", entries=(FILE,))),
    "a colon in a layer's name": layers(Layer(name="a:b", entries=(FILE,))),
    "a path as a layer's name": layers(Layer(name="../x", entries=(FILE,))),
    "a line break in a layer's name": layers(Layer(name="a\n", entries=(FILE,))),
    "an empty name of a layer": layers(Layer(name="", entries=(FILE,))),
    "NUL in kernel arguments": boot(kernel_args=("a\0b",)),
    "a line break in kernel arguments": boot(kernel_args=("a\nb",)),
    "NUL in QEMU's arguments": boot(qemu_args=("a\0b",)),
    "port 0": boot(forwards=(Forward(name="x", guest_port=0),)),
    "port 65536": boot(forwards=(Forward(name="x", guest_port=65536),)),
    "preferred port -1": boot(forwards=(Forward(name="x", guest_port=1, preferred=-1),)),
    "mode -1": layers(Layer(name="a", entries=(File(path="/etc/x", data=b"", mode=-1),))),
    "mode 0o10000": layers(Layer(name="a", entries=(File(path="/x", data=b"", mode=0o10000),))),
    "the root as a file": layers(Layer(name="a", entries=(File(path="/", data=b""),))),
    "the root as a link": layers(Layer(name="a", entries=(Symlink(path="/", target="x"),))),
    "a path with ..": layers(Layer(name="a", entries=(File(path="/a/../../x", data=b""),))),
    "a relative path": layers(Layer(name="a", entries=(File(path="x", data=b""),))),
    "NUL in a path": layers(Layer(name="a", entries=(File(path="/a\0b", data=b""),))),
    "the root as a node's file": {"node_files": lambda ctx, node: (File(path="/", data=b""),)},
    "a timeout that is no number": checks(Check(name="c", run=run, timeout=math.nan)),
    "an endless timeout": checks(Check(name="c", run=run, timeout=math.inf)),
    "an interval before now": checks(Check(name="c", run=run, interval=-1.0)),
    "two checks of one name": checks(Check(name="c", run=run), Check(name="c", run=run)),
    "a check without a name": checks(Check(name="", run=run)),
}


@pytest.mark.parametrize("what", WRONG)
def test_it_is_an_error_of_the_plugin_which_it_names(what: str) -> None:
    hooks = {"overlay": lambda: Overlay(summary="wrong", requires=("base",)), **WRONG[what]}
    with pytest.raises(PluginError) as caught:
        plan_of("wrong", plugins={"wrong": plugin(**hooks)})
    assert "'wrong'" in str(caught.value), str(caught.value)


def test_two_overlays_cannot_have_a_check_of_one_name() -> None:
    one = plugin(overlay=lambda: Overlay(summary="one"), **checks(Check(name="c", run=run)))
    other = plugin(overlay=lambda: Overlay(summary="other"), **checks(Check(name="c", run=run)))
    with pytest.raises(PluginError) as caught:
        plan_of(("debian", "one", "other"), plugins={"one": one, "other": other})
    assert "'one'" in str(caught.value)
    assert "'other'" in str(caught.value)
