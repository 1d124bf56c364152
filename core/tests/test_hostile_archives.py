"""Archives that want out, or to fill the disk: the corpus, and whatever hypothesis thinks of."""

from __future__ import annotations

import ast
import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from xk8s.errors import Xk8sError
from xk8s.files import Limits, UnsafeArchive, open_tar, unpack
from xk8s.util.archives import find_in, piped_tar, unpack_tar

REG, DIR, SYM, LNK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
ROOT = Path(__file__).resolve().parents[2]


@frozen
class M:
    """A member of a tar."""

    name: str
    kind: bytes = REG
    link: str = ""
    data: bytes = b""
    pax: tuple[tuple[str, str], ...] = ()


def made(members: list[M], *, form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.size = member.kind, member.link, len(member.data)
            info.mode = 0o7777
            info.pax_headers = dict(member.pax)
            archive.addfile(info, io.BytesIO(member.data))
    return stream.getvalue()


def tree(root: Path) -> dict[str, object]:
    """Everything below a directory, with what would show that it was touched."""
    found: dict[str, object] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else status.st_nlink
        found[str(path.relative_to(root))] = (status.st_mode, status.st_ino, content)
    return found


@contextmanager
def target(around: Path) -> Iterator[Path]:
    """A target some levels down; nothing but it may change."""
    place = around / "one" / "two" / "three"
    place.mkdir(parents=True)
    (around / "one" / "two" / "secret").write_text("secret")
    (around / "one" / "two" / "a").mkdir()
    before = tree(around)
    yield place / "target"
    if (place / "target").exists():
        (place / "target").rename(around.parent / "taken")
    try:
        after = tree(around)
        # A directory's links are its subdirectories: the target was one, for a while.
        assert after == before
    finally:
        if (around.parent / "taken").exists():
            shutil.rmtree(around.parent / "taken")


def links_lead_out(root: Path) -> list[Path]:
    top = os.path.realpath(root)
    links = [path for path in root.rglob("*") if path.is_symlink()]
    return [path for path in links if os.path.commonpath([top, os.path.realpath(path)]) != top]


THROUGH_LINKS = [
    M("a/b", DIR),
    M("a/b/c", SYM, "../.."),
    M("e", SYM, "a/b/c/.."),
    M("e/made/by/link", SYM, "x"),
]
"""Each of its links looks as if it stayed inside."""

REFUSED: dict[str, tuple[list[M], str]] = {
    "dots": ([M("../evil")], "'../evil' is an unsafe path"),
    "dots inside": ([M("a/../../evil")], "unsafe path"),
    "absolute": ([M("/evil")], "'/evil' is an unsafe path"),
    "through links": (THROUGH_LINKS, "leads through a link"),
    "links out together": (THROUGH_LINKS[:3], "has a link out of it: 'e'"),
    "the second link first": ([THROUGH_LINKS[2], *THROUGH_LINKS[:2]], "a link out of it: 'e'"),
    "absolute link": ([M("a", SYM, "/etc/passwd")], "a link out of it: 'a' -> '/etc/passwd'"),
    "link out": ([M("a", SYM, "../secret")], "a link out of it"),
    "link out by a directory that is not there": ([M("a", SYM, "no/../..")], "a link out of it"),
    "file through a link": ([M("a", SYM, "."), M("a/b")], "leads through a link"),
    "directory through a link": ([M("a", SYM, "."), M("a", DIR)], "leads through a link"),
    "directories through a link": ([M("a", SYM, ".."), M("a/b", DIR)], "leads through a link"),
    "link through a link": ([M("a", SYM, "."), M("a/b", SYM, "c")], "leads through a link"),
    "hard link out": ([M("a", LNK, "../../secret")], "unsafe path"),
    "absolute hard link": ([M("a", LNK, "/etc/passwd")], "unsafe path"),
    "hard link of what a link leads to": (
        [M("l", SYM, "../.."), M("a", LNK, "l/secret")],
        "leads through a link",
    ),
    "hard link to a link that leads out where it is": (
        [M("a/b/l", SYM, "../.."), M("l", LNK, "a/b/l")],
        "has a link out of it: 'l'",
    ),
    "hard link to nothing": ([M("a", LNK, "b")], "not a file before it"),
    "hard link to a directory": ([M("b", DIR), M("a", LNK, "b")], "not a file before it"),
    "hard link to itself": ([M("a"), M("a", LNK, "a")], "a link to itself"),
    "directory over a file": ([M("a"), M("a", DIR)], "leads through a file"),
    "file over a directory": ([M("a/b"), M("a")], "is a directory and something else"),
    "link over a directory": ([M("a/b"), M("a", SYM, "c")], "is a directory and something else"),
    "below a file": ([M("a"), M("a/b")], "leads through a file"),
    "the top as a file": ([M(".")], "is a directory and something else"),
    "the top as a link": ([M("./", SYM, "..")], "is a directory and something else"),
    "character device": ([M("a", tarfile.CHRTYPE)], "neither file, directory nor link"),
    "block device": ([M("a", tarfile.BLKTYPE)], "neither file, directory nor link"),
    "pipe": ([M("a", tarfile.FIFOTYPE)], "neither file, directory nor link"),
    "unknown kind": ([M("a", b"Z")], "neither file, directory nor link"),
    "link to nothing": ([M("a", SYM, "")], "empty, broken or overlong"),
    "overlong link": ([M("a", SYM, "b/" * 2000)], "empty, broken or overlong"),
    "overlong part": ([M("a" * 256)], "longer than 2048 bytes, 255 in one part"),
    "overlong part in bytes": ([M("é" * 128)], "255 in one part"),
    "overlong name": ([M("/".join(["a" * 200] * 11))], "longer than 2048 bytes"),
    "deep": ([M("a/" * 200 + "b")], "or 128 parts"),
    "NUL in a name": ([M("a", pax=(("path", "b\0c"),))], "unsafe path"),
    "NUL in a link": ([M("a", SYM, "b", pax=(("linkpath", "b\0c"),))], "empty, broken"),
    "endless header": ([M("a", pax=(("comment", "x" * (1 << 20)),))], "256.0 KiB, the limit"),
    "less than nothing": ([M("a", pax=(("size", "-1024"),))], "less than no bytes"),
    "more than there is": ([M("a", pax=(("size", "100000"),))], "cannot be read"),
}

HANDLED: dict[str, tuple[list[M], dict[str, str]]] = {
    "twice": ([M("a", data=b"1"), M("a", data=b"2")], {"a": "2"}),
    "file over a link": ([M("b"), M("a", SYM, "b"), M("a", data=b"2")], {"a": "2", "b": ""}),
    "link over a file": ([M("b"), M("a", data=b"1"), M("a", SYM, "b")], {"a": "-> b", "b": ""}),
    "hard link": ([M("a/b", data=b"1"), M("c/d", LNK, "./a/b")], {"a/b": "1", "c/d": "1"}),
    "file over a hard link": (
        [M("a", data=b"1"), M("b", LNK, "a"), M("b", data=b"2")], {"a": "1", "b": "2"}
    ),
    "hard link to a link": (
        [M("b", data=b"1"), M("a", SYM, "b"), M("c", LNK, "a")],
        {"a": "-> b", "b": "1", "c": "-> b"},
    ),
    "hard link to a hard link to a link": (
        [M("a", SYM, "b"), M("c", LNK, "a"), M("d", LNK, "c")],
        {"a": "-> b", "c": "-> b", "d": "-> b"},
    ),
    "links through links": (
        [M("x/y/f", data=b"1"), M("l", SYM, "x"), M("m", SYM, "l/y/../y/f")],
        {"x/y/f": "1", "l": "-> x", "m": "-> l/y/../y/f"},
    ),
    "link before what it leads to": ([M("a", SYM, "b"), M("b")], {"a": "-> b", "b": ""}),
    "link to the top": ([M("a/b", SYM, "..")], {"a/b": "-> .."}),
    "links in a circle": ([M("a", SYM, "b"), M("b", SYM, "a")], {"a": "-> b", "b": "-> a"}),
    "a link that was replaced may have led out": (
        [M("a", SYM, "../.."), M("a", data=b"1")], {"a": "1"}
    ),
    "directory twice": ([M("a", DIR), M("a/b"), M("a", DIR)], {"a/b": ""}),
    "the top": ([M("./", DIR), M("./a", data=b"1")], {"a": "1"}),
    "long name": ([M("a" * 255 + "/" + "b" * 255)], {"a" * 255 + "/" + "b" * 255: ""}),
    "other letters": ([M("é\n\x1b", data=b"1")], {"é\n\x1b": "1"}),
    "nothing": ([], {}),
}  # fmt: skip


def leaves(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): f"-> {path.readlink()}" if path.is_symlink()
        else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }  # fmt: skip


FORMS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_names_of_the_archive_and_the_member(
    tmp_path: Path, case: str, form: str
) -> None:
    members, why = REFUSED[case]
    if form == "gnu" and any(member.pax for member in members):
        pytest.skip("said in headers of pax only")
    archive = tmp_path / "bad.tar"
    archive.write_bytes(made(members, form=FORMS[form]))
    with target(tmp_path / "around") as place:
        with pytest.raises(UnsafeArchive) as caught:
            unpack(archive, place)
        assert str(caught.value).startswith("bad.tar: ")
        assert why in str(caught.value)
        assert isinstance(caught.value, Xk8sError)
        assert caught.value.exit_code == 6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", HANDLED)
def test_handled(tmp_path: Path, case: str, form: str) -> None:
    members, expected = HANDLED[case]
    archive = tmp_path / "good.tar"
    archive.write_bytes(made(members, form=FORMS[form]))
    with target(tmp_path / "around") as place:
        unpack(archive, place)
        assert leaves(place) == expected
        for path in place.rglob("*"):
            assert path.is_symlink() or not path.stat().st_mode & 0o7022, "not as its user made it"


# --- limits -----------------------------------------------------------------------------------


def test_a_tiny_archive_that_says_terabytes_is_refused_before_it_is_written(
    tmp_path: Path,
) -> None:
    header = tarfile.TarInfo("bomb")
    header.size = 1 << 40
    archive = tmp_path / "bomb.tgz"
    archive.write_bytes(gzip.compress(header.tobuf() + bytes(1 << 20)))
    with pytest.raises(UnsafeArchive, match=r"bomb\.tgz: .* 16\.0 GiB, the limit, at 'bomb'"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target" / "bomb").exists()


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("form", COMPRESSED)
def test_the_sum_of_all_members_is_bounded(tmp_path: Path, form: str) -> None:
    members = [M(f"m{number}", data=bytes(300_000)) for number in range(10)]
    archive = tmp_path / "bomb"
    archive.write_bytes(COMPRESSED[form](made(members)))
    small = Limits(size=1_000_000)
    if form == "tar":  # as large as what is in it: it is no bomb
        unpack(archive, tmp_path / "target", limits=small)
        return
    with pytest.raises(UnsafeArchive, match=r"bomb: .* 1000000|976\.6 KiB, the limit, at 'm3'"):
        unpack(archive, tmp_path / "target", limits=small)
    assert sum(path.stat().st_size for path in (tmp_path / "target").iterdir()) <= small.size


def test_what_is_skipped_counts_as_well(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.tgz"
    archive.write_bytes(gzip.compress(made([M("a", data=bytes(1 << 20))] * 4)))
    with (
        pytest.raises(UnsafeArchive, match="the limit"),
        open_tar(archive, limits=Limits(size=2 << 20)) as tar,
    ):
        for _ in tar:
            pass


def test_a_sparse_file_counts_with_its_holes(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 36)
    archive = tmp_path / "bomb.tar"
    os.system(f"tar --sparse -C {tmp_path} -cf {archive} sparse")
    with pytest.raises(UnsafeArchive, match=r"16\.0 GiB, the limit, at 'sparse'"):
        unpack(archive, tmp_path / "target")


def test_the_number_of_members_is_bounded(tmp_path: Path) -> None:
    archive = tmp_path / "many.tar"
    archive.write_bytes(made([M(f"m{number}") for number in range(11)]))
    unpack(archive, tmp_path / "enough", limits=Limits(members=11))
    with pytest.raises(UnsafeArchive, match=r"many\.tar: it has more than 10 members, .* 'm10'"):
        unpack(archive, tmp_path / "target", limits=Limits(members=10))
    assert len(list((tmp_path / "target").iterdir())) == 10


def test_the_memory_for_headers_is_bounded(tmp_path: Path) -> None:
    """tarfile reads a header of any size at once, headers of headers recursively, and keeps
    global ones.
    """
    huge = tarfile.TarInfo("@LongLink")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    (tmp_path / "huge.tar").write_bytes(huge.tobuf() + bytes(1 << 20))
    huge.size = 0
    (tmp_path / "chain.tar").write_bytes(huge.tobuf() * 5000 + made([M("a")]))
    stream = io.BytesIO()
    for number in range(100):
        pax = {f"k{number}": "x" * 1000}
        stream.write(tarfile.TarInfo.create_pax_global_header(pax))
        stream.write(tarfile.TarInfo(f"m{number}").tobuf())
    (tmp_path / "globals.tar").write_bytes(stream.getvalue() + bytes(1024))
    for name, why in (
        ("huge", "header of a member has more than 256"),
        ("chain", "header of a member has more than 256|cannot be read"),
        ("globals", "more than 64 global headers"),
    ):
        with pytest.raises(UnsafeArchive, match=rf"{name}\.tar: .*({why})"):
            unpack(tmp_path / f"{name}.tar", tmp_path / name)


def test_what_a_program_prints_behind_the_archive_is_bounded(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(made([M("a")]))
    argv = ["sh", "-c", f"cat {archive}; cat /dev/zero"]
    limits = Limits(size=1 << 20)
    with (
        pytest.raises(UnsafeArchive, match=r"x\.deb: .* 1\.0 MiB, the limit"),
        piped_tar(argv, name="x.deb", limits=limits) as tar,
    ):
        unpack_tar(tar, tmp_path / "target")


# --- packages of a guest ------------------------------------------------------------------------


def test_links_of_a_package_work_inside_its_tree(tmp_path: Path) -> None:
    members = [
        M("./usr/lib/x/real", data=b"1"),
        M("./usr/bin/x", SYM, "/etc/alternatives/x"),
        M("./etc/alternatives/x", SYM, "/usr/lib/y/../x/real"),
        M("./usr/lib/y", SYM, "/usr/lib/x"),
        M("./usr/share/doc", SYM, "../../usr/lib/x"),
        M("./usr/bin/loop", SYM, "/usr/bin/loop"),
    ]
    archive = tmp_path / "a.tar"
    archive.write_bytes(made(members))
    with target(tmp_path / "around") as place:
        with piped_tar(["cat", str(archive)]) as tar:
            unpack_tar(tar, place, rooted=True)
        assert find_in(place, "/usr/bin/x") == place / "usr/lib/x/real"
        assert find_in(place, "usr/share/doc/real") == place / "usr/lib/x/real"
        assert find_in(place, "/usr/bin/loop") is None
        assert find_in(place, "/usr/bin/x/y") is None
        assert find_in(place, "../secret") is None


def test_packages_lead_out_by_no_link(tmp_path: Path) -> None:
    for number, links in enumerate(
        (
            [M("a/b/c", SYM, "/"), M("e", SYM, "a/b/c/..")],
            [M("a", SYM, "../x")],
            [M("a", SYM, "/.."), M("b", LNK, "a")],
        )
    ):
        archive = tmp_path / f"{number}.tar"
        archive.write_bytes(made(links))
        with (
            target(tmp_path / str(number)) as place,
            pytest.raises(UnsafeArchive, match="has a link out of it"),
            piped_tar(["cat", str(archive)]) as tar,
        ):
            unpack_tar(tar, place, rooted=True)


# --- zip ---------------------------------------------------------------------------------------


def zipped(*members: tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, data)
    return stream.getvalue()


ZIPS: dict[str, tuple[bytes, str]] = {
    "dots": (zipped(("a/../../evil", b"", 0)), "unsafe path"),
    "absolute": (zipped(("/evil", b"", 0)), "unsafe path"),
    "link": (zipped(("a", b"/etc/passwd", 0o120777)), "'a' is neither a file nor a directory"),
    "device": (zipped(("a", b"", 0o020666)), "'a' is neither a file nor a directory"),
    "pipe": (zipped(("a", b"", 0o010666)), "'a' is neither a file nor a directory"),
    "file and directory": (zipped(("a", b"", 0), ("a/b", b"", 0)), "leads through a file"),
    "directory and file": (zipped(("a/", b"", 0), ("a", b"", 0)), "directory and something else"),
    "overlong": (zipped(("a" * 300, b"", 0)), "255 in one part"),
    "too many": (zipped(*((f"m{n}", b"", 0) for n in range(60))), "50 members, the limit, at"),
    "bomb": (zipped(("a", bytes(3 << 20), 0)), "2.0 MiB, the limit, at 'a'"),
    "bombs": (zipped(*((f"m{n}", bytes(1 << 19), 0) for n in range(9))), "limit, at 'm4'"),
    "cut": (zipped(("a", os.urandom(9999), 0))[:5000], "cannot be read"),
    "wrong sum": (zipped(("a", b"1234", 0), method=0).replace(b"1234", b"1235", 1), "cannot be"),
    "password": (
        zipped(("a", b"1234", 0)).replace(
            b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"
        ),
        "cannot be read",
    ),
    "unknown method": (zipped(("a", b"1", 0)).replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x61\0"),
                       "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", ZIPS)
def test_zips_are_refused(tmp_path: Path, case: str) -> None:
    data, why = ZIPS[case]
    archive = tmp_path / "bad.zip"
    archive.write_bytes(data)
    limits = Limits(size=2 << 20, members=50)
    with target(tmp_path / "around") as place, pytest.raises(UnsafeArchive) as caught:
        unpack(archive, place, limits=limits)
    assert str(caught.value).startswith("bad.zip: ")
    assert why in str(caught.value)


def test_a_size_that_a_zip_lies_about_is_no_way_around_the_limit(tmp_path: Path) -> None:
    data = bytearray(zipped(("a", bytes(3 << 20), 0)))
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = (100).to_bytes(4, "little")
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(UnsafeArchive, match=r"bad\.zip"):
        unpack(tmp_path / "bad.zip", tmp_path / "target", limits=Limits(size=1 << 20))


def test_a_name_twice_in_a_zip_is_the_last_one(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    unpack(tmp_path / "a.zip", tmp_path / "target")
    assert leaves(tmp_path / "target") == {"a": "2"}


def test_a_tar_with_a_zip_in_it_is_a_tar(tmp_path: Path) -> None:
    """It was taken for the zip: that is recognised by its end."""
    archive = tmp_path / "a.tar"
    archive.write_bytes(made([M("in.zip", data=zipped(("evil", b"", 0)))]))
    unpack(archive, tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["in.zip"]


# --- whatever there is ------------------------------------------------------------------------

PARTS = st.sampled_from(["a", "b", "c", "..", ".", "made"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(NAMES, NAMES, NAMES.map(lambda name: f"/{name}"), st.just("OUTSIDE"))
KINDS = st.sampled_from([REG, DIR, SYM, SYM, SYM, LNK, LNK, tarfile.FIFOTYPE])
MEMBERS = st.builds(M, NAMES, KINDS, TARGETS, st.just(b""))


@given(st.lists(MEMBERS, max_size=8), st.booleans())
@settings(max_examples=600)
def test_nothing_is_ever_made_outside_of_the_target(members: list[M], rooted: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="xk8s-") as name:
        around = Path(name) / "around"
        outside = str(around / "one" / "two" / "made")
        members = [M(m.name, m.kind, m.link.replace("OUTSIDE", outside)) for m in members]
        archive = Path(name) / "a.tar"
        archive.write_bytes(made(members))
        with target(around) as place:
            try:
                with open_tar(archive) as tar:
                    unpack_tar(tar, place, rooted=rooted)
            except UnsafeArchive:
                return
            if not rooted:
                assert not links_lead_out(place)
            for wanted in ("a", "b/c", "made/a/b", "../a", "c/../../a"):
                found = find_in(place, wanted)
                assert found is None or not found.is_symlink()
                assert found is None or place in (found, *found.parents)


WHOLE = [M("a/b", data=b"x" * 3000), M("a/l", SYM, "b"), M("h", LNK, "a/b"), M("é" * 99)]
SOUND = {
    **{form: (pack(made(WHOLE)), f"a.{form}") for form, pack in COMPRESSED.items()},
    "zip": (zipped(("a/b", b"x" * 3000, 0), ("c", os.urandom(500), 0)), "a.zip"),
    "lzma zip": (zipped(("a/b", b"x" * 3000, 0), method=zipfile.ZIP_LZMA), "a.zip"),
    "bz2 zip": (zipped(("a/b", b"x" * 3000, 0), method=zipfile.ZIP_BZIP2), "a.zip"),
}


@pytest.mark.parametrize("form", SOUND)
@given(st.data())
@settings(max_examples=150)
def test_a_damaged_archive_is_an_error_that_says_so(form: str, data: st.DataObject) -> None:
    sound, name = SOUND[form]
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(len(damaged) // 2, len(damaged))) :]
    with tempfile.TemporaryDirectory(prefix="xk8s-") as directory:
        archive = Path(directory) / name
        archive.write_bytes(damaged)
        with target(Path(directory) / "around") as place:
            said = name
            try:
                unpack(archive, place)
            except UnsafeArchive as error:
                said = str(error)
            assert said.startswith(name)


# --- one rule in one place ----------------------------------------------------------------------


def test_nothing_else_unpacks() -> None:
    """Whoever needs an archive's content takes it from `xk8s.files`."""
    allowed = {"core/src/xk8s/util/archives.py", "core/src/xk8s/util/bounded_tar.py"}
    sources = [ROOT / "core" / "src", ROOT / "tools", ROOT / "run"]
    sources += [path / "src" for path in (ROOT / "plugins").iterdir()]
    wrong = []
    files = [
        path
        for source in sources
        for path in ([source] if source.is_file() else source.rglob("*.py"))
    ]
    assert len(files) > 100
    for path in files:
        where = str(path.relative_to(ROOT))
        if where in allowed or path.name == "run":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            reads = call in ("tarfile.open", "zipfile.ZipFile") and "w" not in ast.unparse(node)
            words = ("extractall", "unpack_archive", "extract")
            if reads or (call.rpartition(".")[2] in words and "StackSummary" not in call):
                wrong.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong
