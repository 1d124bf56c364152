"""Each verb that changes something: how the cluster is prepared for it, and what holds after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from tests.campaign.lab import FIRST, UP, Lab, Lost, directory


@frozen
class Verb:
    """A verb: how the cluster is prepared for it, and what holds when the next command of the user
    has repeated it.
    """

    name: str
    prepare: Callable[[Lab], None]
    words: Callable[[Lab], tuple[str, ...]]
    holds: Callable[[Lab], None]
    done: tuple[int, ...] = (0,)
    """Exit codes of the repetition: 10 of an `up` whose first run had got to its end."""


def _none(lab: Lab) -> None:
    lab.down()
    assert lab.xk8s.root is not None
    shutil.rmtree(lab.xk8s.root / "s" / "snapshots", ignore_errors=True)


def _saved(lab: Lab) -> None:
    """Nothing runs, and there is a snapshot to start from."""
    lab.down()
    lab.run("up", *UP)
    lab.down()


def _running(lab: Lab) -> None:
    lab.run("down")
    lab.up()


def _named(lab: Lab) -> None:
    """It runs, and has a snapshot ``base`` with the mark."""
    _running(lab)
    lab.run("snapshot", "save", "base")


def _three(lab: Lab) -> None:
    _running(lab)
    lab.run("scale", "--nodes", "3")


def _dead(lab: Lab) -> None:
    _running(lab)
    lab.run("node", "kill", "vm-002")


def _two(lab: Lab) -> None:
    lab.whole(*FIRST)


def _two_without_mark(lab: Lab) -> None:
    lab.whole(*FIRST, mark=False)


def _applied(lab: Lab) -> None:
    lab.whole(*FIRST)
    for node in FIRST:
        if lab.run("exec", "-n", node, "--", "cat", "/etc/applied").strip() != "applied":
            raise Lost(f"{node} has not what was applied")


def _ends(lab: Lab) -> None:
    lab.down()


def _apply(lab: Lab) -> tuple[str, ...]:
    assert lab.xk8s.root is not None
    return ("apply", str(directory(Path(lab.xk8s.root) / "dir", "applied\n")), "--no-check")


def _always(*words: str) -> Callable[[Lab], tuple[str, ...]]:
    return lambda _: words


VERBS = (
    Verb("up cold", _none, _always("up", *UP, "--cold"), _two_without_mark, (0, 10)),
    Verb("up restored", _saved, _always("up", *UP), _two_without_mark, (0, 10)),
    Verb("apply", _running, _apply, _applied),
    Verb("scale up", _running, _always("scale", "--nodes", "3"),
         lambda lab: lab.whole(*FIRST, "vm-003")),
    Verb("scale down", _three, _always("scale", "--nodes", "2"), _two),
    Verb("snapshot save", _running, _always("snapshot", "save", "x"), _two),
    Verb("reset", _named, _always("reset"), _two),
    Verb("ca rotate", _running, _always("ca", "rotate"), _two),
    Verb("node reboot", _running, _always("node", "reboot", "vm-002", "--no-check"),
         _two_without_mark),
    Verb("node start", _dead, _always("node", "start", "vm-002", "--no-check"), _two_without_mark),
    Verb("down", _running, _always("down"), _ends),
)  # fmt: skip
"""Repeated after a kill, each of them does what it should have done."""
