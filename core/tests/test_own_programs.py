"""A directory of own builds that has none is an error, and never silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from xk8s.errors import UsageError
from xk8s.own_programs import own_programs
from xk8s.testing.plans import plan_of

pin = own_programs("kubelet", "kube-proxy")


def test_a_directory_with_any_of_the_programs_is_kept_as_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubelet").write_text("")
    monkeypatch.chdir(tmp_path)
    assert pin(".") == str(tmp_path)
    assert pin("") == ""


@pytest.mark.parametrize("given", ["_output", ".", "_output/nothing/at/all", "_output/bin/kubelet"])
def test_the_error_names_the_directory_near_it(tmp_path: Path, given: str) -> None:
    programs = tmp_path / "_output/bin"
    programs.mkdir(parents=True)
    (programs / "kubelet").write_text("")
    with pytest.raises(UsageError) as caught:
        pin(str(tmp_path / given))
    assert caught.value.hint == f"did you mean {programs}?"


def test_a_directory_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        pin(str(tmp_path / "nosuch"))


@pytest.mark.parametrize("text", ["x" * 300, "/" + "d/" * 1000, "a\0b", "~nobody-of-that-name/x"])
def test_what_is_no_path_is_an_error(text: str) -> None:
    with pytest.raises(UsageError):
        pin(text)


@pytest.mark.parametrize(
    ("overlay", "key"),
    [
        ("kubernetes", "kubernetes.dir"),
        ("kubernetes", "kubernetes.cni_dir"),
        ("kubernetes", "etcd.dir"),
        ("containerd", "containerd.dir"),
        ("containerd", "containerd.runtime_dir"),
        ("coredns", "coredns.dir"),
        ("crio", "crio.dir"),
        ("flannel", "flannel.dir"),
        ("kube-router", "kube-router.dir"),
    ],
)
def test_every_overlay_refuses_a_directory_without_its_programs(
    tmp_path: Path, overlay: str, key: str
) -> None:
    for wrong in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(UsageError) as caught:
            plan_of(("debian", overlay), f"{key}={wrong}")
        assert key in caught.value.where
