"""The stack shows what a real overlayfs of this kernel shows of the same layers."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from xk8s.build.layers.diff import difference
from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.erofs_write import make_image
from xk8s.build.layers.stack import FilesLevel, ImageLevel, Stack, StackLevel, identity

Tree = Mapping[str, str]
"""Path -> ``file``, ``directory``, ``whiteout``, or ``link to TARGET``."""

# Mounts the directories that it is given (topmost first) and says what there is: path -> mode and
# content or target.
SHOW = """
import json, os, stat, subprocess, sys
mount, lower = sys.argv[1], ":".join(sys.argv[2:])
subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={lower}", "test", mount], check=True)
os.chdir(mount)
found = {}
for above, directories, files in os.walk("."):
    for name in directories + files:
        path = os.path.join(above, name)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue  # a whiteout: its directory lists it where no other layer has that directory
        content = ""
        if stat.S_ISLNK(mode):
            content = os.readlink(path)
        elif stat.S_ISREG(mode):
            content = open(path).read()
        found[path[1:]] = mode, content
print(json.dumps(found))
"""
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    if subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")


def overlayfs(trees: Sequence[Path], mount: Path) -> dict[str, tuple[int, str]]:
    """``trees``: lowest first."""
    argv = [*UNSHARE, sys.executable, "-c", SHOW, str(mount), *map(str, reversed(trees))]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return {path: (mode, content) for path, (mode, content) in json.loads(done.stdout).items()}


def make_tree(tree: Tree, root: Path, number: int) -> None:
    """Files say which layer they are from, and so do the modes of directories."""
    root.mkdir()
    for path, what in tree.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if what == "file":
            place.write_text(f"layer {number}")
        elif what == "directory":
            place.mkdir(exist_ok=True)
        elif what == "whiteout":
            os.mknod(place, stat.S_IFCHR, os.makedev(0, 0))
        else:
            place.symlink_to(what.removeprefix("link to "))
    for place in root.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o700 | number)


def image_level(root: Path, number: int, images: ExitStack) -> ImageLevel:
    file = root.with_suffix(".erofs")
    make_image(root, file, digest=str(number))  # its own digest refuses devices
    return ImageLevel(
        name=f"layer-{number}", key=str(number), image=images.enter_context(open_image(file))
    )


def seen(stack: Stack, paths: Sequence[str]) -> dict[str, tuple[int, str]]:
    found = {}
    for path in paths:
        if (there := stack.find(path)) is None:
            continue
        level, entry = there
        content = entry.target
        if entry.kind == "file" and isinstance(level, ImageLevel):
            content = level.image.read(path).decode()
        found[path] = entry.mode, content
    return found


NAMES = ("a", "b", "c")
PATHS = [
    *(f"/{x}" for x in NAMES),
    *(f"/{x}/{y}" for x in NAMES for y in NAMES),
    *(f"/{x}/{y}/{z}" for x in NAMES for y in NAMES for z in NAMES),
]
KINDS = st.sampled_from(
    ["file", "directory", "whiteout", "link to a", "link to /b", "link to ../c", "link to nowhere"]
)


def possible(chosen: Mapping[str, str]) -> Tree:
    """What one layer can have: nothing is below anything but a directory."""
    stops = [path for path, what in chosen.items() if what != "directory"]
    return {
        path: what
        for path, what in chosen.items()
        if not any(path.startswith(f"{stop}/") for stop in stops)
    }


TREES = st.lists(
    st.dictionaries(st.sampled_from(PATHS), KINDS, max_size=7).map(possible),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(TREES)
@example([{"/a/b/c": "file"}, {"/a/b": "whiteout"}, {"/a/b/a": "file"}])
@example([{"/a/b": "file"}, {"/a": "file"}, {"/a/c": "file"}])
@example([{"/a/b": "file", "/b/c": "file"}, {"/a": "link to /b"}])
@example([{"/b/c": "file", "/a": "link to /b"}, {"/a/b": "file"}])
@example([{"/a": "file"}, {"/a": "whiteout"}, {"/a": "directory"}])
@example([{"/a/b": "whiteout", "/a/c": "file"}])
def test_a_stack_shows_what_overlayfs_shows(trees: list[Tree]) -> None:
    with ExitStack() as images, tempfile.TemporaryDirectory() as name:
        place = Path(name)
        # Overlayfs without a writable layer wants two.
        roots = [place / "empty"]
        make_tree({}, roots[0], 0)
        levels: list[StackLevel] = []
        for number, tree in enumerate(trees, 1):
            roots.append(place / str(number))
            make_tree(tree, roots[-1], number)
            levels.append(image_level(roots[-1], number, images))
        (place / "mount").mkdir()
        assert seen(Stack(levels), PATHS) == overlayfs(roots, place / "mount")


def test_files_of_a_node_hide_as_an_image_does(tmp_path: Path) -> None:
    make_tree({"/a/b": "file", "/b": "file", "/c/a": "file"}, tmp_path / "1", 1)
    own = {"/a": "mine", "/b/c": "mine", "/c/b": "mine"}
    with ExitStack() as images:
        node = FilesLevel(
            name="node", files={path: identity(0o644, data.encode()) for path, data in own.items()}
        )
        stack = Stack([image_level(tmp_path / "1", 1, images), node])
        shown = {path: there[0].name for path in PATHS if (there := stack.find(path))}
    assert shown == {
        "/a": "node", "/b": "node", "/b/c": "node", "/c": "node",
        "/c/a": "layer-1", "/c/b": "node",
    }  # fmt: skip


def test_a_new_whiteout_removes_the_file_and_writes_nothing(tmp_path: Path) -> None:
    """It was taken for a device, which `apply` cannot write: an image store has whiteouts."""
    make_tree({"/a/b": "file", "/a/c": "file"}, tmp_path / "1", 1)
    make_tree({"/a/b": "whiteout"}, tmp_path / "2", 1)
    with ExitStack() as images:
        low = image_level(tmp_path / "1", 1, images)
        high = image_level(tmp_path / "2", 2, images)
        change = difference(Stack([low]), Stack([low, high]))
        assert (change.gone, change.put) == (("/a/b",), {})
        back = difference(Stack([low, high]), Stack([low]))
        assert (back.gone, [*back.put]) == ((), ["/a/b"])
