"""Every path in a stack of layers has one owner."""

from __future__ import annotations

import pytest
from xk8s.errors import PlanError
from xk8s.overlay import Directory, File, Layer, Symlink, Take
from xk8s.planning.ownership import check_owners
from xk8s.sources import Artifact

TREE = Artifact(name="tree", version="1", members=("a", "sub/b"), sources=())


def file(path: str) -> File:
    return File(path=path, data=b"")


def take(path: str, member: str = "a") -> Take:
    return Take(artifact=TREE, member=member, path=path)


def layer(name: str, *entries, **options) -> Layer:
    return Layer(name=name, entries=entries, **options)


@pytest.mark.parametrize(
    ("lower", "upper", "path"),
    [
        (file("/etc/a"), file("/etc/a"), "/etc/a"),
        (file("/etc/a"), file("/etc//a/"), "/etc/a"),
        (file("/etc/a"), Symlink(path="/etc/a", target="b"), "/etc/a"),
        (Symlink(path="/opt", target="usr"), file("/opt/x"), "/opt/x"),
        (file("/opt/x"), Symlink(path="/opt", target="usr"), "/opt"),
        (take("/opt"), file("/opt/cni/bin/x"), "/opt/cni/bin/x"),
        (file("/opt/cni/bin/x"), take("/opt"), "/opt"),
        (take("/usr", "."), file("/usr/sub/b"), "/usr/sub/b"),
        (file("/a"), take("/", "."), "/a"),
    ],
)
def test_both_overlays_and_the_path_are_named(lower, upper, path) -> None:
    stack = [("one", layer("l1", lower)), ("two", layer("l2", upper))]
    with pytest.raises(PlanError, match=r"'one' .* and 'two' .* both write") as caught:
        check_owners(stack)
    assert path in str(caught.value)
    assert "replaces" in caught.value.hint
    for prefix in (path, f"/{path.split('/')[1]}", "/"):
        allowed = layer("l2", upper, replaces=(prefix,))
        check_owners([stack[0], ("two", allowed)])
    # The lower one cannot replace what comes above it.
    with pytest.raises(PlanError):
        check_owners([("one", layer("l1", lower, replaces=("/",))), stack[1]])
    with pytest.raises(PlanError):
        check_owners([stack[0], ("two", layer("l2", upper, replaces=("/elsewhere",)))])


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (file("/etc/a"), file("/etc/ab")),
        (file("/etc/a"), file("/etc/b/a")),
        (Directory(path="/etc"), file("/etc/a")),
        (Directory(path="/etc"), Directory(path="/etc")),
        (take("/opt/cni"), file("/opt/cnix")),
        (take("/usr", "."), file("/usr/sub/c")),
    ],
)
def test_neighbours_and_shared_directories_are_fine(lower, upper) -> None:
    check_owners([("one", layer("l1", lower)), ("two", layer("l2", upper))])


def test_layers_that_never_meet_may_share_a_path() -> None:
    one = layer("l1", file("/etc/a"), roles=frozenset({"router"}))
    check_owners([("one", one), ("two", layer("l2", file("/etc/a"), roles=frozenset({"worker"})))])
    with pytest.raises(PlanError):
        check_owners([("one", one), ("two", layer("l2", file("/etc/a")))])


def test_two_layers_of_one_overlay_and_one_layer_alone() -> None:
    with pytest.raises(PlanError, match="layers 'l1' and 'l2' of overlay 'one'"):
        check_owners([("one", layer("l1", file("/a"))), ("one", layer("l2", file("/a")))])
    with pytest.raises(PlanError, match="'l1' of overlay 'one' has /a twice"):
        check_owners([("one", layer("l1", file("/a"), take("/a")))])


@pytest.mark.parametrize("path", ["etc/a", "/etc/../a", "/./a", "/sbin/a", "/", "", "/a\0b"])
def test_a_bad_path_names_the_overlay(path: str) -> None:
    with pytest.raises(PlanError, match="'one'"):
        check_owners([("one", layer("l1", file(path)))])
