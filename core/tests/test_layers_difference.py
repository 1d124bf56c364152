"""What changes between two stacks of layers, put into a tree of this machine by the very script
that guests run: what comes out is the other stack.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xk8s.build.layers.build import stage_entries
from xk8s.build.layers.diff import Difference, difference, entries
from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.erofs_write import make_image
from xk8s.build.layers.stack import FilesLevel, ImageLevel, Stack, StackLevel, identity
from xk8s.cluster.change.push import STAGE, push
from xk8s.context import ExecResult
from xk8s.errors import MachineError
from xk8s.overlay import Directory, Entry, File, Symlink

Tree = Mapping[str, tuple[str, int, bytes]]
"""Path -> kind, permission bits, content or target."""


class Guest:
    """A node whose root is a directory of this machine; its programs are the real ones."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60
    ) -> ExecResult:
        places = {"/": str(self.root), STAGE: f"{self.root}{STAGE}"}
        words = [places.get(word, word) for word in argv]
        done = subprocess.run(words, input=stdin, capture_output=True, check=False)
        return ExecResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


MODIFY, MOVED_TO = 0x2, 0x80


class Watch:
    """inotify(7) of a directory."""

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.fd, os.fsencode(directory), MODIFY | MOVED_TO) > 0

    def seen(self) -> list[tuple[int, str]]:
        data, events = os.read(self.fd, 1 << 16), []
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            name, data = data[16 : 16 + length], data[16 + length :]
            events.append((mask, name.rstrip(b"\0").decode()))
        os.close(self.fd)
        return events


def bring(root: Path, change: Difference, new: Stack, own: Mapping[str, bytes]) -> None:
    put = entries(new, (*change.directories, *change.put), own.__getitem__)
    gone = (*change.gone, *change.emptied)
    push(Guest(root), "vm-001", put, gone=gone, replaced=change.replaced)  # type: ignore[arg-type]


def tree_of(root: Path) -> Tree:
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        name = "/" + str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()).encode())
        elif path.is_dir():
            found[name] = ("directory", mode, b"")
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found


def merged(layers: Sequence[Sequence[Entry]]) -> Tree:
    """What overlayfs shows of layers, lowest first, said in another way than the code does it."""
    shown: dict[str, tuple[str, int, bytes]] = {}
    for layer in layers:
        whole: dict[str, Entry] = {}
        for entry in layer:
            for above in PurePosixPath(entry.path).parents:
                if str(above) != "/":
                    whole.setdefault(str(above), Directory(path=str(above)))
        whole |= {entry.path: entry for entry in layer}
        for path, entry in sorted(whole.items()):
            if (
                not isinstance(entry, Directory)
                or shown.get(path, ("directory",))[0] != "directory"
            ):
                shown = {
                    p: v for p, v in shown.items() if p != path and not p.startswith(f"{path}/")
                }
            match entry:
                case File():
                    shown[path] = ("file", entry.mode, entry.data)
                case Symlink():
                    shown[path] = ("link", 0, entry.target.encode())
                case Directory():
                    shown[path] = ("directory", entry.mode, b"")
    return shown


def put_down(tree: Tree, root: Path) -> None:
    for path, (kind, mode, content) in sorted(tree.items()):
        target = root / path.lstrip("/")
        if kind == "link":
            target.symlink_to(content.decode())
        elif kind == "directory":
            target.mkdir()
            target.chmod(mode)
        else:
            target.write_bytes(content)
            target.chmod(mode)


names = st.sampled_from(["a", "b", "c c", "d'\n"])
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
contents = st.sampled_from([b"", b"one", b"two", b"x" * 5000])


@st.composite
def layer(draw: st.DrawFn) -> tuple[Entry, ...]:
    """Entries that one image can have: none lies below another's file."""
    chosen: dict[str, Entry] = {}
    for path in draw(st.lists(paths, max_size=4, unique=True)):
        if any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in chosen):
            continue
        chosen[path] = draw(
            st.one_of(
                st.builds(
                    File, path=st.just(path), data=contents, mode=st.sampled_from([0o644, 0o755])
                ),
                st.builds(Symlink, path=st.just(path), target=st.sampled_from(["a", "/x/y"])),
                st.builds(Directory, path=st.just(path), mode=st.sampled_from([0o755, 0o700])),
            )
        )
    return tuple(chosen.values())


files = st.dictionaries(st.sampled_from(["/n/one", "/n/two", "/n/m/three"]), contents, max_size=3)


class Images:
    """Images of layers, each made once."""

    def __init__(self, stack: ExitStack, place: Path) -> None:
        self.stack, self.place = stack, place
        self.made: dict[tuple[Entry, ...], ImageLevel] = {}

    def level(self, content: tuple[Entry, ...]) -> ImageLevel:
        if content not in self.made:
            key = str(len(self.made))
            stage_entries(content, {}, self.place / key, label="test")
            make_image(self.place / key, self.place / f"{key}.erofs")
            image = self.stack.enter_context(open_image(self.place / f"{key}.erofs"))
            self.made[content] = ImageLevel(name=f"layer-{key}", key=key, image=image)
        return self.made[content]


def own_files(given: Mapping[str, bytes]) -> FilesLevel:
    return FilesLevel(
        name="node", files={path: identity(0o644, data) for path, data in given.items()}
    )


def as_entries(given: Mapping[str, bytes]) -> tuple[Entry, ...]:
    return tuple(File(path=path, data=data) for path, data in given.items())


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    old=st.lists(layer(), max_size=3),
    new=st.lists(layer(), max_size=3),
    both=layer(),
    old_files=files,
    new_files=files,
)
def test_a_guest_with_the_difference_applied_is_the_new_one(
    old: list[tuple[Entry, ...]],
    new: list[tuple[Entry, ...]],
    both: tuple[Entry, ...],
    old_files: dict[str, bytes],
    new_files: dict[str, bytes],
) -> None:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = Images(stack, place)
        root = place / "root"
        root.mkdir()
        before = Stack([images.level(both), *map(images.level, old), own_files(old_files)])
        after = Stack([images.level(both), *map(images.level, new), own_files(new_files)])
        put_down(merged([both, *old, as_entries(old_files)]), root)
        wanted = merged([both, *new, as_entries(new_files)])
        change = difference(before, after)
        bring(root, change, after, new_files)
        assert tree_of(root) == wanted
        # What was not finished is done again, whatever of it was done.
        again = difference(after, after, unsure=change.marks)
        bring(root, again, after, new_files)
        assert tree_of(root) == wanted
        back = difference(before, before, unsure=change.marks)
        bring(root, back, before, old_files)
        assert tree_of(root) == merged([both, *old, as_entries(old_files)])


def test_mending_removes_nothing_behind_a_link(tmp_path: Path) -> None:
    """What a link hides may have been there, and may not; where it leads to is another matter."""
    with ExitStack() as stack:
        images = Images(stack, tmp_path)
        low = images.level((File(path="/a/x", data=b"low"),))
        for target in ("other", "a"):
            link = images.level((Symlink(path="/a", target=target),))
            root = tmp_path / f"root-{target}"
            (root / "other").mkdir(parents=True)
            (root / "other" / "x").write_text("not ours")
            (root / "a").symlink_to(target)
            after = Stack([low, link])
            again = difference(after, after, unsure=("/a",))
            assert again.gone == ("/a/x",)
            bring(root, again, after, {})
            assert (root / "other" / "x").read_text() == "not ours"
            assert (root / "a").readlink() == Path(target)


def test_what_was_hidden_between_comes_and_goes(tmp_path: Path) -> None:
    """Two that the test above found."""
    with ExitStack() as stack:
        images = Images(stack, tmp_path)
        low = images.level((File(path="/a/b", data=b"low"),))
        stop = images.level((File(path="/a", data=b"stop"),))
        top = images.level((File(path="/a/a", data=b"top"),))
        assert difference(Stack([low]), Stack([low, stop, top])).gone == ("/a/b",)
        replaced = difference(Stack([low]), Stack([low, stop]))
        assert replaced.marks == ("/a/b", "/a//")
        back = difference(Stack([low]), Stack([low]), unsure=replaced.marks)
        assert (*back.directories, *back.put) == ("/a", "/a/b")


def test_what_is_the_same_in_another_layer_is_no_change(tmp_path: Path) -> None:
    with ExitStack() as stack:
        images = Images(stack, tmp_path)
        one = images.level((File(path="/etc/a", data=b"same"), File(path="/etc/b", data=b"1")))
        two = images.level((File(path="/etc/a", data=b"same"), File(path="/etc/b", data=b"2")))
        change = difference(Stack([one]), Stack([two]))
        assert change.paths == ("/etc/b",)
        assert change.before == {"/etc": one.name, "/etc/a": one.name, "/etc/b": one.name}


def test_an_overridden_file_stays_overridden(tmp_path: Path) -> None:
    with ExitStack() as stack:
        images = Images(stack, tmp_path)
        old = images.level((File(path="/a", data=b"old"),))
        new = images.level((File(path="/a", data=b"new"),))
        top = images.level((File(path="/a", data=b"mine"),))
        assert difference(Stack([old, top]), Stack([new, top])).paths == ()
        gone = difference(Stack([old, top]), Stack([old]))
        assert gone.put == {"/a": 3}, "what lies below is seen again"


def test_ready_images_are_not_compared(tmp_path: Path) -> None:
    with ExitStack() as stack:
        images = Images(stack, tmp_path)
        old = images.level((File(path="/store/1", data=b"old"),))
        new = images.level((File(path="/store/2", data=b"new"),))
        assert difference(Stack([old]), Stack([new]), ready={old.name, new.name}).paths == ()


def test_what_the_guest_made_in_a_directory_keeps_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        images = Images(stack, tmp_path)
        full = images.level((File(path="/d/a", data=b""),))
        empty: list[StackLevel] = []
        root = tmp_path / "root"
        (root / "d").mkdir(parents=True)
        (root / "d" / "a").touch()
        (root / "d" / "log").write_text("of the guest")
        new = Stack(empty)
        bring(root, difference(Stack([full]), new), new, {})
        assert [path.name for path in (root / "d").iterdir()] == ["log"]


def test_a_running_program_is_replaced(tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/sleeper"
    program.parent.mkdir(parents=True)
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    running = subprocess.Popen([program, "60"])
    try:
        push(Guest(tmp_path), "vm-001", [File(path="/usr/bin/sleeper", data=b"new", mode=0o755)])  # type: ignore[arg-type]
        assert program.read_bytes() == b"new"
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
    assert not (tmp_path / STAGE.lstrip("/")).exists()


def test_who_waits_for_a_write_sees_one_and_then_the_whole_file_is_there(tmp_path: Path) -> None:
    """containerd reads its CNI configuration again at a write, and heeds no other event that a
    file's move from elsewhere makes.
    """
    directory = tmp_path / "etc/cni/net.d"
    directory.mkdir(parents=True)
    (directory / "a.conf").write_text("old")
    watch = Watch(directory)
    put = [
        File(path="/etc/cni/net.d/a.conf", data=b"new"),
        File(path="/etc/cni/net.d/program", data=b"#!/bin/sh\n", mode=0o755),
    ]
    push(Guest(tmp_path), "vm-001", put)  # type: ignore[arg-type]
    seen = watch.seen()
    assert [event for event in seen if event[1] == "a.conf"] == [
        (MOVED_TO, "a.conf"),
        (MODIFY, "a.conf"),
    ]
    # A program may run already: it is not to be written to.
    assert [event for event in seen if event[1] == "program"] == [(MOVED_TO, "program")]
    assert (directory / "a.conf").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]


def test_a_guest_that_cannot_says_why(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("no directory")
    with pytest.raises(MachineError, match="1 files could not be written") as caught:
        push(Guest(tmp_path), "vm-001", [File(path="/etc/x", data=b"")])  # type: ignore[arg-type]
    assert "etc" in caught.value.log
