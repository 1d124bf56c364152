"""Images built from a directory: what counts of it, what image.json may say."""

from __future__ import annotations

import json
import os
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError, UsageError
from xk8s.progress import Silent
from xk8s.sources import Artifact
from xk8s_images import ImagesSettings, image_artifact
from xk8s_images.directory import identity, read_config
from xk8s_images.layout import config_of, manifest_of
from xk8s_images.settings import images_of, pin_build


def artifact(directory: Path, ref: str = "app:1") -> Artifact:
    (image,) = images_of(ImagesSettings(build=pin_build({ref: str(directory)})))
    return image_artifact(image)


def layer_of(layout: Path) -> tarfile.TarFile:
    manifest = json.loads(blob(layout, manifest_of(layout)["digest"]).read_bytes())
    (layer,) = manifest["layers"]
    return tarfile.open(blob(layout, layer["digest"]))


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A program, a link to it, a directory for everybody, and something hidden."""
    path = tmp_path / "root"
    for name in ("bin", "tmp", "etc/.hidden"):
        (path / name).mkdir(parents=True)
    (path / "bin/app").write_bytes(b"\x7fELF")
    (path / "bin/app").chmod(0o750)
    (path / "bin/sh").symlink_to("/bin/app")
    (path / "etc/.hidden/x").write_text("x")
    (path / "tmp").chmod(0o1777)
    (path / "image.json").write_text(
        json.dumps(
            {
                "entrypoint": ["/bin/app"],
                "cmd": ["--all"],
                "env": ["A=1", "B=a=b"],
                "workdir": "/etc",
                "user": "65534:65534",
            }
        )
    )
    return path


def test_the_files_are_the_root_and_image_json_is_not_among_them(
    root: Path, own_cache: Path
) -> None:
    out = Store(own_cache).get(artifact(root), Silent()).path / "oci"
    assert manifest_of(out)["annotations"]["io.containerd.image.name"] == "docker.io/library/app:1"
    assert config_of(out)["config"] == {
        "Cmd": ["--all"],
        "Entrypoint": ["/bin/app"],
        "Env": ["A=1", "B=a=b"],
        "User": "65534:65534",
        "WorkingDir": "/etc",
    }
    with layer_of(out) as tar:
        found = {member.name: member for member in tar}
        assert sorted(found) == [
            "bin",
            "bin/app",
            "bin/sh",
            "etc",
            "etc/.hidden",
            "etc/.hidden/x",
            "tmp",
        ]
        assert tar.extractfile("bin/app").read() == b"\x7fELF"
    assert found["bin/app"].mode == 0o755
    assert found["etc/.hidden/x"].mode == 0o644
    assert found["bin/sh"].linkname == "/bin/app"
    assert found["tmp"].mode == 0o1777
    assert found["bin"].mode == 0o755
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, 0)}


def test_it_is_built_again_only_when_a_file_changed(root: Path, own_cache: Path) -> None:
    first = artifact_key(artifact(root))
    digest = Store(own_cache).get(artifact(root), Silent()).digest
    os.utime(root / "bin/app", (1, 1))
    (root / "bin/app").chmod(0o775)  # another umask
    (root / "bin").chmod(0o700)
    assert artifact_key(artifact(root)) == first
    moved = root.rename(root.with_name("moved"))
    assert artifact_key(artifact(moved)) == first
    keys = {first}
    for change in (
        lambda: (moved / "bin/app").write_bytes(b"\x7fELG"),
        lambda: (moved / "bin/app").chmod(0o644),
        lambda: (moved / "empty").mkdir(),
        lambda: ((moved / "bin/sh").unlink(), (moved / "bin/sh").symlink_to("app")),
        lambda: (moved / "image.json").write_text("{}"),
        lambda: (moved / "image.json").unlink(),
        lambda: (moved / "bin/sh").rename(moved / "bin/bash"),
    ):
        change()
        keys.add(artifact_key(artifact(moved)))
    assert len(keys) == 8
    other = Store(own_cache).get(artifact(moved), Silent())
    assert other.digest != digest


def test_the_same_files_give_the_same_image_on_another_machine(root: Path, tmp_path: Path) -> None:
    digests = set()
    for umask in (0o022, 0o077):
        old = os.umask(umask)
        try:
            cache = tmp_path / f"cache-{umask}"
            digests.add(Store(cache).get(artifact(root), Silent()).digest)
        finally:
            os.umask(old)
    assert len(digests) == 1


def test_a_directory_that_changed_since_the_plan(root: Path, own_cache: Path) -> None:
    wanted = artifact(root)
    (root / "bin/app").write_bytes(b"another")
    with pytest.raises(ArtifactError, match="not the one that was there"):
        Store(own_cache).get(wanted, Silent())
    assert not list((own_cache / "artifacts").glob("*"))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('{"entrypoin": []}', "unknown key 'entrypoin'", "'entrypoint'"),
        ('{"entrypoint": "/bin/app --all"}', "must be a list of strings", '["one", "two"]'),
        ('{"cmd": ["a", 1]}', "must be a list of strings", ""),
        ('{"env": ["A"]}', "env has 'A'", "NAME=value"),
        ('{"env": ["=A"]}', "env has '=A'", "NAME=value"),
        ('{"workdir": "etc"}', "workdir must be an absolute path", ""),
        ('{"user": 0}', "user must be a string", ""),
        ("[]", "must be a JSON object", ""),
        ("{", "cannot be read", ""),
        ("\xff", "cannot be read|must be", ""),
    ],
)
def test_what_image_json_may_not_say(root: Path, text: str, message: str, hint: str) -> None:
    (root / "image.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=message) as caught:
        pin_build({"app:1": str(root)})
    assert caught.value.where == str(root / "image.json")
    assert hint in caught.value.hint


def test_what_cannot_be_in_an_image(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        pin_build({"app:1": str(tmp_path / "absent")})
    with pytest.raises(UsageError, match="is not a directory"):
        pin_build({"app:1": str(root / "bin/app")})
    with pytest.raises(UsageError, match="is not an image reference"):
        pin_build({"App:1": str(root)})
    os.mkfifo(root / "pipe")
    with pytest.raises(UsageError, match="pipe is neither file"):
        pin_build({"app:1": str(root)})
    (root / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(root / "s"))
        with pytest.raises(UsageError, match="s is neither file"):
            identity(root)


def test_relative_directories_and_home(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    pinned = [pin_build({"app:1": text}) for text in ("root", "./root", "~/root", str(root))]
    assert all(artifact == pinned[0] for artifact in pinned)
    assert pinned[0]["docker.io/library/app:1"].startswith(f"{root}@sha256:")


def test_without_image_json_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert read_config(tmp_path / "d").entrypoint == ()


NAMES = st.text(alphabet="ab.é ", min_size=1, max_size=4).filter(lambda s: s not in (".", ".."))


@given(files=st.dictionaries(NAMES, st.binary(max_size=9), min_size=1, max_size=4))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_names_and_contents_are_kept_apart(tmp_path_factory, own_cache: Path, files) -> None:
    """However they are distributed over names: two directories are one image only when equal."""
    root = tmp_path_factory.mktemp("d")
    for name, data in files.items():
        (root / name).write_bytes(data)
    same = identity(root)
    name, data = next(iter(files.items()))
    (root / name).write_bytes(data + b"\0")
    assert identity(root) != same
    (root / name).write_bytes(data)
    assert identity(root) == same
